"""Whole scans through a network for slices: as slice by slice, whatever goes at once; slices of air are background."""

import pytest
import torch
from monai.data import MetaTensor

from strokelesion.networks.mirror import MirrorInferer
from strokelesion.networks.volume import VolumeInferer

WINDOWS = ([8, 12], 0.25)


class Counting:
    """Three classes from the slice and its neighbors; notes how many windows it is shown at once."""

    def __init__(self):
        self.shown = []

    def __call__(self, slices):
        self.shown.append(len(slices))
        weights = torch.arange(1.0, slices.shape[1] + 1)[:, None, None]
        total = (weights * slices).sum(dim=1, keepdim=True)
        return torch.cat([-total, total - 1, total.cos()], dim=1)


def volume_with_air(air, depth=9, size=(7, 11), volumes=1):
    torch.manual_seed(0)
    volume = torch.rand(volumes, 1, *size, depth) + 0.1
    volume[..., air] = 0
    return volume


def slice_by_slice(volume, neighbors):
    """Logits of volumes whose slices fit into a window, or of a network that looks at pixels one by one."""
    ends = volume.shape[-1] - 1
    steps = range(-neighbors, neighbors + 1)
    network = Counting()
    slices = [
        torch.cat([volume[..., min(max(position + step, 0), ends)] for step in steps], dim=1) for position in range(ends + 1)
    ]
    return torch.stack([network(one) for one in slices], dim=-1)


@pytest.mark.parametrize("neighbors", [0, 2])
@pytest.mark.parametrize("air", [[0, 1, 8], [4], [0, 2, 3, 7, 8], []])
@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("size", [(7, 11), (13, 12), (20, 31)])
def test_air_is_background_for_sure_and_all_else_as_slice_by_slice(neighbors, air, batch, size):
    volume = volume_with_air(air, size=size)
    found = VolumeInferer(*WINDOWS, neighbors, batch)(volume, Counting())
    tissue = [position for position in range(9) if position not in air]
    torch.testing.assert_close(found[..., tissue], slice_by_slice(volume, neighbors)[..., tissue])
    probabilities = found.softmax(dim=1)[..., air]
    assert (probabilities[:, 0] == 1).all()
    assert (probabilities[:, 1:] == 0).all()


@pytest.mark.parametrize(("batch", "shown"), [(1, [1] * 7), (2, [2, 2, 2, 1]), (3, [3, 3, 1]), (9, [7])])
def test_the_network_sees_slices_with_tissue_only_and_no_more_at_once_than_asked(batch, shown):
    network = Counting()
    VolumeInferer(*WINDOWS, 1, batch)(volume_with_air([0, 5]), network)
    assert network.shown == shown


@pytest.mark.parametrize(("rows", "columns"), [((3, 40), (0, 9)), ((60, 70), (20, 49)), ((0, 70), (0, 49))])
def test_snug_windows_leave_out_the_air_around_all_slices_and_change_nothing_else(rows, columns):
    volume = torch.zeros(1, 1, 70, 49, 6)
    inside = (..., slice(*rows), slice(*columns), slice(1, 5))
    volume[inside] = torch.rand_like(volume[inside]) + 0.1
    sizes = set()

    def network(slices):
        sizes.add(tuple(slices.shape[-2:]))
        return Counting()(slices)

    found = VolumeInferer((64, 64), 0.25, 1, 4, snug=True)(volume, network)
    expected = slice_by_slice(volume, 1)
    torch.testing.assert_close(found[inside], expected[inside])
    (size,) = sizes
    for side, (first, last), length in zip(size, (rows, columns), (70, 49), strict=True):
        assert side == min(64, length, 16 * -(-(last - first) // 16))
    outside = found.softmax(dim=1)[0, 0] < 1
    for axis, (first, last) in enumerate((rows, columns)):
        there = outside.any(dim=2).any(dim=1 - axis).nonzero().flatten()
        assert first - 16 < there[0]
        assert there[-1] < last + 16


def test_several_volumes_are_taken_each_by_itself():
    volumes = volume_with_air([3], volumes=3)
    volumes[1, ..., 6:] = 0
    inferer = VolumeInferer(*WINDOWS, 2, 4)
    for volume, found in zip(volumes, inferer(volumes, Counting()), strict=True):
        assert torch.equal(found, inferer(volume[None], Counting())[0])


@pytest.mark.parametrize("as_scan", [torch.as_tensor, MetaTensor])
def test_logits_are_of_the_kind_of_the_scan_and_contiguous(as_scan):
    volume = as_scan(volume_with_air([3]))
    found = VolumeInferer(*WINDOWS, 1, 4)(volume, Counting())
    assert type(found) is type(volume)
    assert found.is_contiguous()
    if isinstance(volume, MetaTensor):
        assert torch.equal(found.affine, volume.affine)


def test_a_volume_of_air_is_background():
    network = Counting()
    found = VolumeInferer(*WINDOWS, 0, 4)(torch.zeros(1, 1, 7, 11, 5), network)
    assert network.shown == [1]
    assert found.shape == (1, 3, 7, 11, 5)
    assert (found.softmax(dim=1)[:, 0] == 1).all()


def test_the_mean_over_mirror_images_leaves_air_background():
    found = MirrorInferer(VolumeInferer(*WINDOWS, 0, 4), enabled=True)(volume_with_air([0, 5]), Counting())
    assert (found.softmax(dim=1)[:, 0, ..., [0, 5]] == 1).all()
