"""Inferers: as slice by slice, whatever goes at once; air is background; means over planes and mirror images; bfloat16."""

import numpy as np
import pytest
import torch
from lesion_network import NEIGHBORS, dice, pretrained_network, slab_with_lesion
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SliceInferer

from strokelesion.networks import (
    ChannelsLastInferer,
    MirrorInferer,
    MixedPrecisionInferer,
    PlanesInferer,
    ResUNet,
    SegNet,
    UNet,
    VolumeInferer,
    inferers,
    uses_cuda_amp,
)
from strokelesion.networks.inferers import with_neighbors
from strokelesion.networks.planes import AXIAL, PLANES, in_plane
from strokelesion.transforms import TurnToPlaned

WINDOWS = ([8, 12], 0.25)
SHAPE = (5, 6, 7)
BF16_TOLERANCE = 0.05  # of the logits' standard deviation; bfloat16 has 8 bits of precision
BF16_LEAST_DICE = 0.99


class Counting:
    """Three classes from the slice and its neighbors; notes how many windows it is shown at once."""

    def __init__(self):
        self.shown = []

    def __call__(self, slices):
        self.shown.append(len(slices))
        weights = torch.arange(1.0, slices.shape[1] + 1)[:, None, None]
        total = (weights * slices).sum(dim=1, keepdim=True)
        return torch.cat([-total, total - 1, total.cos()], dim=1)


def rows_of_slices(slices):
    """Logits `(B, 2, H, W)` of slices `(B, 1, H, W)` that depend on where in its slice a pixel is."""
    height, width = slices.shape[-2:]
    where = torch.linspace(0, 1, height)[:, None] + torch.linspace(0, 10, width)
    return torch.cat([slices * where, slices + where], dim=1)


def by_slice(volume, network):
    """Each slice along the last axis through the network."""
    return SliceInferer(roi_size=list(volume.shape[2:4]), spatial_dim=2)(volume, network)


def volume_with_air(air, depth=9, size=(7, 11), volumes=1):
    torch.manual_seed(0)
    volume = torch.rand(volumes, 1, *size, depth) + 0.1
    volume[..., air] = 0
    return volume


def slice_by_slice(volume, neighbors):
    """Logits of a network that looks at pixels one by one, so that windows do not matter."""
    depth = volume.shape[-1]
    near = [[min(max(position + step, 0), depth - 1) for step in range(-neighbors, neighbors + 1)] for position in range(depth)]
    return torch.stack([Counting()(volume[:, 0, ..., chosen].movedim(-1, 1)) for chosen in near], dim=-1)


# Whole volumes


@pytest.mark.parametrize("neighbors", [0, 1, 2, 5])
def test_each_slice_gets_those_below_and_above_and_the_ends_repeat(neighbors):
    volumes = torch.rand(2, 1, 3, 4, 5)
    chosen = torch.tensor([[0, 4], [1, 2], [0, 0], [1, 1], [1, 4], [0, 2]])
    slices = with_neighbors(volumes, chosen, neighbors)
    assert slices.shape == (6, 2 * neighbors + 1, 3, 4)
    for found, (volume, position) in zip(slices, chosen.tolist(), strict=True):
        for channel, step in enumerate(range(-neighbors, neighbors + 1)):
            assert torch.equal(found[channel], volumes[volume, 0, ..., min(max(position + step, 0), 4)])


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
    torch.testing.assert_close(found[inside], slice_by_slice(volume, 1)[inside])
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


# The mirror image


def test_a_mirrored_volume_gets_the_mirrored_answer_unless_it_is_off():
    volume = torch.rand(1, 1, 8, 12, 5)

    def see_left(slices):
        return slices * torch.linspace(1, 0, 8)[:, None]

    mirrored, plain = MirrorInferer(by_slice, enabled=True), MirrorInferer(by_slice, enabled=False)
    found = mirrored(volume, see_left)
    torch.testing.assert_close(found, volume / 2)
    torch.testing.assert_close(mirrored(volume.flip(2), see_left), found.flip(2))
    assert torch.equal(plain(volume, see_left), by_slice(volume, see_left))


def test_the_mean_over_mirror_images_leaves_air_background():
    found = MirrorInferer(VolumeInferer(*WINDOWS, 0, 4), enabled=True)(volume_with_air([0, 5]), Counting())
    assert (found.softmax(dim=1)[:, 0, ..., [0, 5]] == 1).all()


# Planes


@pytest.mark.parametrize("plane", [*PLANES, None])
def test_functions_see_the_slices_that_training_saw(plane):
    volume = torch.rand(1, *SHAPE)
    record = {"plane": plane} if plane else {}  # axial by default
    turned = TurnToPlaned(["image", "label"])({"image": MetaTensor(volume, affine=torch.eye(4)), **record})
    seen = []

    def look(there):
        seen.append(there)
        return there * 2

    assert torch.equal(in_plane(volume[None], look, plane or AXIAL), volume[None] * 2)
    assert torch.equal(seen[0][0], turned["image"].as_tensor())


def test_probabilities_are_the_mean_of_what_each_plane_says():
    volume = torch.rand(2, 1, *SHAPE)
    expected = torch.zeros(2, 2, *SHAPE)
    for y in range(SHAPE[1]):
        expected[:, :, :, y] += rows_of_slices(volume[:, :, :, y]).softmax(dim=1) / 2
    for z in range(SHAPE[2]):
        expected[..., z] += rows_of_slices(volume[..., z]).softmax(dim=1) / 2
    found = PlanesInferer(by_slice, ["axial", "coronal"])(volume, rows_of_slices)
    torch.testing.assert_close(found.softmax(dim=1), expected)


def test_what_is_certain_in_all_planes_stays_so():
    found = PlanesInferer(by_slice, PLANES)(torch.ones(1, 1, *SHAPE), lambda slices: torch.cat([300 * slices, -slices], 1))
    assert (found.softmax(dim=1)[:, 0] == 1).all()
    assert found.isfinite().all()


def test_one_plane_is_what_its_slices_say():
    volume = torch.rand(1, 1, *SHAPE)
    assert torch.equal(PlanesInferer(by_slice, ["axial"])(volume, rows_of_slices), by_slice(volume, rows_of_slices))
    sagittal = PlanesInferer(by_slice, ["sagittal"])(volume, rows_of_slices)
    rows = np.stack([rows_of_slices(volume[:, :, x]) for x in range(SHAPE[0])], axis=2)
    np.testing.assert_allclose(sagittal, rows, rtol=1e-6)


# Mixed precision


@pytest.mark.parametrize(
    ("device", "machine", "supported", "units", "fast"),
    [
        ("cpu", "x86_64", True, True, True),
        ("cpu", "x86_64", True, False, False),  # plain AVX512, which imitates bfloat16
        ("cpu", "AMD64", False, False, False),
        ("cpu", "aarch64", True, False, True),
        ("cuda", "x86_64", True, True, False),
    ],
)
def test_bfloat16_is_used_where_it_is_wanted_and_the_processor_has_units_for_it(
    device, machine, supported, units, fast, monkeypatch
):
    monkeypatch.setattr(inferers.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    for ability in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, ability, lambda: units)
    assert MixedPrecisionInferer(SimpleInferer(), True, device).enabled is fast
    assert MixedPrecisionInferer(SimpleInferer(), False, device).enabled is False


@pytest.mark.parametrize(("amp", "device", "uses"), [(True, "cuda:1", True), (True, "cpu", False), (False, "cuda", False)])
def test_engines_use_half_precision_on_cuda_only(amp, device, uses):
    assert uses_cuda_amp(amp, device) is uses


@pytest.fixture
def in_precision(monkeypatch):
    """Function that returns the logits of slices in half or single precision, on any processor."""
    monkeypatch.setattr(inferers, "has_fast_bfloat16", lambda device: True)

    def predict(slices, network, half):
        with torch.no_grad():
            return MixedPrecisionInferer(SimpleInferer(), half, "cpu")(slices, network)

    return predict


@pytest.mark.parametrize("network_class", [UNet, SegNet, ResUNet])
def test_half_precision_predicts_almost_the_same_and_returns_single(network_class, in_precision):
    """SegNet's indices are left out: where two pixels of noise almost tie, rounding sends the value to the other."""
    torch.manual_seed(0)
    network = network_class().train()  # before training, only batch statistics keep the signal's size
    x = torch.rand(2, 1, 64, 96)
    single, half = in_precision(x, network, False), in_precision(x, network, True)
    assert half.dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(single, network(x))
    assert 0 < (half - single).abs().mean() < BF16_TOLERANCE * single.std()


def test_half_precision_calls_the_same_voxels_lesion(in_precision):
    """Six slices of 1 mm, with their neighbors, through the infarct of a phantom."""
    fine = slab_with_lesion(2, 3)
    positions = torch.arange(2, fine.shape[-1] - 2)
    slices = with_neighbors(fine, torch.stack([torch.zeros_like(positions), positions], dim=1), NEIGHBORS)
    network = pretrained_network()
    single, half = (in_precision(slices, network, half).argmax(dim=1) > 0 for half in (False, True))
    assert single.float().mean() > 0.01
    assert dice(single, half) >= BF16_LEAST_DICE


def test_the_channels_last_inferer_converts_the_weights_and_keeps_the_prediction():
    torch.manual_seed(2)
    network = torch.nn.Conv2d(2, 3, 3, padding=1)
    slices = torch.rand(2, 2, 6, 5)
    with torch.no_grad():
        expected = network(slices)
        found = ChannelsLastInferer(SimpleInferer())(slices, network)
    assert network.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected)
