"""Neighbors of slices: the same in training, where the slice store gives them, and after, where the inferer does."""

import pytest
import torch
from monai.inferers import SimpleInferer, SliceInferer

from strokelesion.networks.neighbors import NeighborInferer, with_neighbors


@pytest.mark.parametrize("neighbors", [1, 2, 5])
def test_each_slice_gets_those_below_and_above_and_the_ends_repeat(neighbors):
    volume = torch.rand(2, 1, 3, 4, 5)
    stacked = with_neighbors(volume, neighbors)
    assert stacked.shape == (2, 2 * neighbors + 1, 3, 4, 5)
    for position in range(5):
        for channel, step in enumerate(range(-neighbors, neighbors + 1)):
            neighbor = min(max(position + step, 0), 4)
            assert torch.equal(stacked[:, channel, ..., position], volume[:, 0, ..., neighbor])


def test_without_neighbors_the_volume_is_handed_on_as_it_is():
    volume = torch.rand(2, 1, 3, 4, 5)
    assert NeighborInferer(SimpleInferer(), 0)(volume, lambda x: x) is volume


def test_a_network_sees_windows_of_slices_with_their_neighbors():
    """The sum of neighbors on both sides, from windows smaller than the slices, is what a loop over slices gives."""
    volume = torch.rand(1, 1, 12, 14, 6)
    inferer = NeighborInferer(SliceInferer(roi_size=[8, 8], spatial_dim=2), 1)
    found = inferer(volume, lambda x: x[:, :1] + 10 * x[:, 2:])
    for position in range(6):
        below, above = volume[..., max(position - 1, 0)], volume[..., min(position + 1, 5)]
        torch.testing.assert_close(found[..., position], below + 10 * above)
