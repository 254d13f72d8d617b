"""Neighbors of slices: the same in training, where the slice store gives them, and after, where the inferer does."""

import pytest
import torch

from strokelesion.networks.neighbors import with_neighbors


@pytest.mark.parametrize("neighbors", [0, 1, 2, 5])
def test_each_slice_gets_those_below_and_above_and_the_ends_repeat(neighbors):
    volumes = torch.rand(2, 1, 3, 4, 5)
    chosen = torch.tensor([[0, 4], [1, 2], [0, 0], [1, 1], [1, 4], [0, 2]])
    slices = with_neighbors(volumes, chosen, neighbors)
    assert slices.shape == (6, 2 * neighbors + 1, 3, 4)
    for found, (volume, position) in zip(slices, chosen.tolist(), strict=True):
        for channel, step in enumerate(range(-neighbors, neighbors + 1)):
            assert torch.equal(found[channel], volumes[volume, 0, ..., min(max(position + step, 0), 4)])
