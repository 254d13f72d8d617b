"""Weights for more neighbors: the same answers, and new channels that can be learned."""

import pytest
import torch

from strokelesion.networks import ResUNet, UNet
from strokelesion.pipeline.models.application import add_neighbors


@pytest.mark.parametrize("network", [UNet, ResUNet])
def test_a_network_that_is_given_neighbors_answers_as_before_until_it_learns_to_look_at_them(network):
    torch.manual_seed(0)
    alone, with_two = network(in_channels=1).eval(), network(in_channels=5).eval()
    with_two.load_state_dict(add_neighbors(alone.state_dict(), with_two.state_dict()))
    slices = torch.rand(2, 5, 32, 48)
    assert torch.allclose(with_two(slices), alone(slices[:, 2:3]), atol=1e-5)
    with_two.train()(slices).sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in with_two.parameters())
    first = next(parameter for parameter in with_two.parameters() if parameter.ndim == 4 and parameter.shape[1] == 5)
    assert first.grad[:, 0].abs().max() > 0


def test_weights_are_not_widened_for_another_reason():
    state = {"conv": torch.rand(4, 3, 3, 3), "bias": torch.rand(4), "dense": torch.rand(4, 3)}
    for wanted in ({"conv": torch.zeros(4, 4, 3, 3)}, {"conv": torch.zeros(5, 5, 3, 3)}, {"conv": torch.zeros(4, 1, 3, 3)}, {}):
        kept = add_neighbors(state, {**state, **wanted})
        assert all(torch.equal(kept[name], tensor) for name, tensor in state.items())
    assert add_neighbors({"conv": state["conv"]}, {"conv": torch.zeros(4, 7, 3, 3)})["conv"].shape == (4, 7, 3, 3)
