"""Slices of air do not go through the network and are background; all others are predicted as without this."""

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SliceInferer

from strokelesion.networks.empty_slices import TissueInferer
from strokelesion.networks.mirror import MirrorInferer
from strokelesion.networks.neighbors import NeighborInferer

SLICES = SliceInferer(roi_size=[8, 12], spatial_dim=2, sw_batch_size=4)


class Counting:
    """Three classes from the slice and its neighbors; counts the slices that it is shown."""

    def __init__(self):
        self.shown = 0

    def __call__(self, slices):
        self.shown += len(slices)
        total = slices.sum(dim=1, keepdim=True)
        return torch.cat([-total, total - 1, total.cos()], dim=1)


def volume_with_air(air, depth=9):
    torch.manual_seed(0)
    volume = torch.rand(1, 1, 7, 11, depth) + 0.1
    volume[..., air] = 0
    return volume


@pytest.mark.parametrize("neighbors", [0, 2])
@pytest.mark.parametrize("air", [[0, 1, 8], [4], [0, 2, 3, 7, 8], []])
@pytest.mark.parametrize("as_scan", [torch.as_tensor, MetaTensor])
def test_air_is_background_for_sure_and_all_else_as_without(neighbors, air, as_scan):
    volume, network = as_scan(volume_with_air(air)), Counting()
    found = NeighborInferer(TissueInferer(SLICES), neighbors)(volume, network)
    assert network.shown == 9 - len(air)
    expected = NeighborInferer(SLICES, neighbors)(volume, network)
    tissue = [position for position in range(9) if position not in air]
    assert type(found) is type(expected)
    assert torch.equal(found[..., tissue], expected[..., tissue])
    probabilities = found.softmax(dim=1)[..., air]
    assert (probabilities[:, 0] == 1).all()
    assert (probabilities[:, 1:] == 0).all()


def test_a_volume_of_air_is_background():
    network = Counting()
    found = TissueInferer(SLICES)(torch.zeros(1, 1, 7, 11, 5), network)
    assert network.shown == 1
    assert found.shape == (1, 3, 7, 11, 5)
    assert (found.softmax(dim=1)[:, 0] == 1).all()


def test_the_mean_over_mirror_images_leaves_air_background():
    found = MirrorInferer(TissueInferer(SLICES), enabled=True)(volume_with_air([0, 5]), Counting())
    assert (found.softmax(dim=1)[:, 0, ..., [0, 5]] == 1).all()
