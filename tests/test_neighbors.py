"""Neighbors of slices: the same in training, where the slice store gives them, and after, where the inferer does."""

import pytest
import torch

from strokelesion.networks import ResUNet, UNet
from strokelesion.networks.neighbors import with_neighbors
from strokelesion.pipeline.weights import given_neighbors


@pytest.mark.parametrize("neighbors", [0, 1, 2, 5])
def test_each_slice_gets_those_below_and_above_and_the_ends_repeat(neighbors):
    volumes = torch.rand(2, 1, 3, 4, 5)
    chosen = torch.tensor([[0, 4], [1, 2], [0, 0], [1, 1], [1, 4], [0, 2]])
    slices = with_neighbors(volumes, chosen, neighbors)
    assert slices.shape == (6, 2 * neighbors + 1, 3, 4)
    for found, (volume, position) in zip(slices, chosen.tolist(), strict=True):
        for channel, step in enumerate(range(-neighbors, neighbors + 1)):
            assert torch.equal(found[channel], volumes[volume, 0, ..., min(max(position + step, 0), 4)])


@pytest.mark.parametrize("network", [UNet, ResUNet])
def test_a_network_that_is_given_neighbors_answers_as_before_until_it_learns_to_look_at_them(network):
    torch.manual_seed(0)
    alone, with_two = network(in_channels=1).eval(), network(in_channels=5).eval()
    with_two.load_state_dict(given_neighbors(alone.state_dict(), with_two.state_dict()))
    slices = torch.rand(2, 5, 32, 48)
    assert torch.allclose(with_two(slices), alone(slices[:, 2:3]), atol=1e-5)
    with_two.train()(slices).sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in with_two.parameters())
    first = next(parameter for parameter in with_two.parameters() if parameter.ndim == 4 and parameter.shape[1] == 5)
    assert first.grad[:, 0].abs().max() > 0


def test_weights_are_not_widened_for_another_reason():
    state = {"conv": torch.rand(4, 3, 3, 3), "bias": torch.rand(4), "dense": torch.rand(4, 3)}
    for wanted in ({"conv": torch.zeros(4, 4, 3, 3)}, {"conv": torch.zeros(5, 5, 3, 3)}, {"conv": torch.zeros(4, 1, 3, 3)}, {}):
        kept = given_neighbors(state, {**state, **wanted})
        assert all(torch.equal(kept[name], tensor) for name, tensor in state.items())
    assert given_neighbors({"conv": state["conv"]}, {"conv": torch.zeros(4, 7, 3, 3)})["conv"].shape == (4, 7, 3, 3)
