"""Voxels in space: volumes, boxes, points, other grids and distances, each against a plain or an independent way."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from scipy.spatial import cKDTree

from strokelesion.networks import UserError
from strokelesion.transforms.geometry import (
    FSL_SPACE,
    MNI_SPACE,
    bounding_box,
    distances_mm,
    is_outside,
    look_up,
    lower_envelopes,
    match_grid,
    mni_grid,
    reach,
    resampled,
    sample_at,
    spread_from,
    to_mni_space,
    voxel_ml,
)
from strokelesion.transforms.headers import MNI, mask_header

SIZE, FAR_AWAY = (40, 44, 37), (200.0, 0.0, 0.0)
SPACING_MM = (1.0, 2.0, 0.7)


def grid(edges_mm, origin_mm=(0, 0, 0), turn=0.0):
    """Return an affine that scales, turns about z and shifts."""
    return torch.from_numpy(from_matvec(euler2mat(turn) @ np.diag(edges_mm), origin_mm))


@pytest.fixture
def volume():
    values = torch.rand(2, 9, 11, 7, generator=torch.Generator().manual_seed(3)) + 0.1
    return MetaTensor(values, affine=grid((-2.0, 1.5, 2.0), (5, -3, 2), 0.3))


def test_a_voxels_volume_does_not_depend_on_its_orientation():
    assert voxel_ml(grid((-1.5, 2, 4), (9, 9, 9), 0.4)) == pytest.approx(0.012)
    assert voxel_ml(MetaTensor(torch.zeros(1, 2, 3, 4), affine=grid((2, 3, 4))).affine) == pytest.approx(0.024)


def test_the_mni_grid_covers_its_extent_with_voxels_of_any_size():
    affine, size = mni_grid((3, 2, 1))
    assert size == [66, 117, 189]
    assert affine.tolist() == [[3, 0, 0, -98], [0, 2, 0, -134], [0, 0, 1, -72], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("space", "size", "affine"),
    [
        (MNI_SPACE, (197, 233, 189), [[1, 0, 0, -98], [0, 1, 0, -134], [0, 0, 1, -72], [0, 0, 0, 1]]),
        (FSL_SPACE, (182, 218, 182), [[-1, 0, 0, 90], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]]),
    ],
)
def test_a_lesion_lies_at_the_same_millimeters_of_mni_space_on_the_grid_of_each_template(space, size, affine):
    probabilities = torch.zeros(3, 30, 34, 28)
    probabilities[1, 3:9, 20:25, 10:14] = 0.7
    probabilities[0] = 1 - probabilities[1]
    to_mni = from_matvec(euler2mat(0.1) @ np.diag([1.1, 1, 0.9]), (-30, 10, 5))
    placed = MetaTensor(probabilities, affine=grid((2.0, 2.0, 3.0)))
    there = to_mni_space(placed, to_mni, space)
    assert (tuple(there.shape), there.affine.tolist()) == ((3, *size), affine)
    torch.testing.assert_close(there.as_tensor().sum(0), torch.ones(size))
    centers = [
        nib.affines.apply_affine(np.asarray(target), np.argwhere(mask[1].numpy() > 0.35)).mean(axis=0)
        for target, mask in ((to_mni @ placed.affine.numpy(), probabilities), (there.affine.numpy(), there.as_tensor()))
    ]
    np.testing.assert_allclose(*centers, atol=0.3)
    header = mask_header(None, there.affine, MNI)
    assert header.get_sform().tolist() == header.get_qform().tolist() == affine
    assert header["sform_code"] == header["qform_code"] == 4  # as in MNI152_T1_1mm.nii.gz of FSL


@pytest.mark.parametrize("array", [np.asarray, torch.as_tensor])
def test_a_box_holds_the_mask_and_its_margin_within_the_volume(array):
    mask = np.zeros((7, 9, 8), dtype=bool)
    assert bounding_box(array(mask)) == (slice(0, 1),) * 3
    mask[2, 3:5, 7] = True
    assert bounding_box(array(mask)) == (slice(2, 3), slice(3, 5), slice(7, 8))
    assert bounding_box(array(mask), margin=3) == (slice(0, 6), slice(0, 8), slice(4, 8))


def test_images_on_other_grids_are_refused():
    image = MetaTensor(torch.ones(1, 9, 8, 7), affine=grid((1, 1, 1)))
    match_grid(image, MetaTensor(torch.ones(3, 9, 8, 7), affine=grid((1, 1, 1.01))))
    with pytest.raises(UserError, match=r"\(7, 8, 9\).*not on the grid"):
        match_grid(image, MetaTensor(torch.ones(1, 7, 8, 9), affine=grid((1, 1, 1))))
    with pytest.raises(UserError, match=r"corners 3\.0 mm apart"):
        match_grid(image, MetaTensor(torch.ones(1, 9, 8, 7), affine=grid((1, 1, 1.5))))


@pytest.mark.parametrize("codes", list(itertools.product("RL", "AP", "SI")))
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_axes_in_any_order_and_direction_are_moved_to_those_of_the_image(volume, codes, order):
    turn = axcodes2ornt([codes[axis] for axis in order])
    values = apply_orientation(volume[0].numpy(), ornt_transform(turn, axcodes2ornt("RAS")))
    affine = volume.affine.numpy() @ inv_ornt_aff(ornt_transform(turn, axcodes2ornt("RAS")), volume.shape[1:])
    turned = MetaTensor(torch.from_numpy(values.copy())[None], affine=torch.from_numpy(affine))
    matched = match_grid(volume, turned)
    assert torch.equal(matched.as_tensor(), volume[:1].as_tensor())
    torch.testing.assert_close(matched.affine, volume.affine)


@pytest.mark.parametrize("without", ["image", "mask"])
def test_axes_are_not_moved_where_no_affine_says_how_they_run(without):
    none = {"qform_code": 0, "sform_code": 0}
    values = torch.rand(1, 9, 8, 7)
    image = MetaTensor(values, affine=grid((1, 1, 1), (-4, 0, 0)), meta=none if without == "image" else {})
    mask = MetaTensor(values, affine=grid((-1, 1, 1), (4, 0, 0)), meta=none if without == "mask" else {})
    with pytest.raises(UserError, match=r"not on the grid.*" + ("has no affine" if without == "mask" else "")):
        match_grid(image, mask)


def test_points_take_values_between_voxels_or_of_the_nearest_and_0_outside():
    affine = torch.tensor([[0, 2.0, 0, 5], [3, 0, 0, -4], [0, 0, 1, 9], [0, 0, 0, 1]])
    image = torch.zeros(1, 7, 8, 9)
    image[0, 2, 5, 6] = 3.0
    points_mm = torch.tensor([[15, 2, 15], [15, 3.2, 15], [15, 4.4, 15], [900, 0, 0]])
    np.testing.assert_allclose(sample_at(image, affine, points_mm[None, None])[0, 0, 0], [3, 1.8, 0.6, 0], atol=1e-5)
    assert sample_at(image, affine, points_mm[None, None], "nearest").flatten().tolist() == [3, 3, 0, 0]
    assert look_up(image[0].numpy().astype(int), affine.numpy(), points_mm.numpy()).tolist() == [3, 3, 0, 0]


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    "target",
    [
        grid((1.0, 1.0, 1.0), (-30.1, -20.2, -9.7)),
        grid((1.3, -0.9, 1.1), (-10, 20, -5), -0.5),
        grid((1.0, 1.0, 1.0), (-3.1, 0.2, 4.3)),
        grid((1.0, 1.0, 1.0), FAR_AWAY),
    ],
)
def test_resampling_a_part_gives_the_same_as_the_whole_grid(volume, target, mode):
    there = MetaTensor(torch.zeros(1, *SIZE), affine=target)
    whole = SpatialResample(mode=mode, padding_mode="zeros", dtype=np.float32)(volume, dst_affine=target, spatial_size=SIZE)
    found = resampled(volume, there, mode)
    assert torch.equal(found.affine, target)
    torch.testing.assert_close(found.as_tensor(), whole.as_tensor(), rtol=0, atol=1e-4)


def test_no_more_than_the_volume_is_resampled(volume):
    targets = [MetaTensor(torch.zeros(1, *SIZE), affine=grid((1, 1, 1), origin)) for origin in ((-20, -20, -5), FAR_AWAY)]
    near, far = (reach(volume, target) for target in targets)
    assert np.prod([part.stop - part.start for part in near]) < 0.4 * np.prod(SIZE)
    assert any(part.start == part.stop for part in far)


def test_unknown_voxels_take_the_value_of_the_nearest_known_one():
    known, values = np.zeros((5, 1, 1), dtype=bool), np.arange(5.0).reshape(5, 1, 1)
    known[[1, 4]] = True
    assert spread_from(known, values).ravel().tolist() in ([1, 1, 1, 4, 4], [1, 1, 1, 1, 4])


@pytest.mark.parametrize("share", [0.003, 0.1, 0.9])
def test_distances_are_those_of_a_loop_over_all_pairs(share):
    mask = torch.rand(13, 9, 17, generator=torch.Generator().manual_seed(5)) < share
    voxels = torch.cartesian_prod(*(torch.arange(size) for size in mask.shape)).double() * torch.tensor(SPACING_MM)
    expected = torch.cdist(voxels, voxels[mask.flatten()]).amin(1).reshape(mask.shape)
    assert torch.allclose(distances_mm(mask, SPACING_MM), expected)
    assert torch.allclose(lower_envelopes(mask, SPACING_MM).sqrt().double(), expected)


@pytest.mark.parametrize("way", [distances_mm, lower_envelopes])
def test_an_empty_mask_is_infinitely_far(way):
    assert way(torch.zeros(3, 4, 5, dtype=torch.bool), SPACING_MM).isinf().all()


def is_untied(reach_mm):
    """Distances between voxels of whole millimeters are roots of whole numbers; rounding decides on none of them."""
    return 0.01 < reach_mm**2 % 1 < 0.99


@given(margin_mm=st.floats(0.1, 9).filter(is_untied), closing_mm=st.floats(0.1, 6).filter(is_untied) | st.just(0))
def test_outside_is_what_distances_say(margin_mm, closing_mm):
    assume(is_untied(margin_mm + closing_mm))
    edges_mm, rims = (1.0, 2.0, 4.0), (16, 8, 4)
    mask = MetaTensor(torch.zeros(1, 9, 11, 7, dtype=torch.uint8), affine=grid(edges_mm))
    mask[0, 3:5, 4:7, 3] = mask[0, 7:, 4:6, 3:5] = 1  # two blocks with a cavity between them, one at the edge
    padded = np.pad(mask[0].numpy(), [(rim, rim) for rim in rims])
    mm = np.argwhere(np.ones(padded.shape)) * edges_mm
    outside = cKDTree(mm[padded.ravel() > 0]).query(mm)[0] > margin_mm + closing_mm
    if closing_mm > 0:
        outside = cKDTree(mm[outside]).query(mm)[0] <= closing_mm
    assert np.array_equal(is_outside(mask, margin_mm, closing_mm), outside.reshape(padded.shape)[16:-16, 8:-8, 4:-4])


def test_on_fine_grids_the_border_is_where_it_is_on_coarse_ones():
    axes = np.indices((61, 72, 58)) - np.array([30, 36, 28])[:, None, None, None]
    ball = MetaTensor(torch.as_tensor((axes**2).sum(0) <= 20**2)[None].to(torch.uint8), affine=torch.eye(4))
    distance_mm = np.sqrt((axes**2).sum(0)) - 20
    outside = is_outside(ball, 5.0, 12.0).numpy()
    assert outside[distance_mm > 6.5].all()
    assert not outside[distance_mm < 3.5].any()
