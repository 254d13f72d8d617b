"""Brain extraction with stand-ins for the network: any grid, any unit, shared network, and what keeps to the brain."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch
from atlas import grid
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import CropForegroundd, Invertd, Orientationd, Spacingd
from nibabel.affines import apply_affine
from stand_ins import BrightIsBrain

from strokelesion.networks import UserError, VolumeInferer
from strokelesion.transforms import (
    BrainExtractor,
    BrainNetwork,
    ExtractBraind,
    KeepInBraind,
    Recipe,
    ScaleTissued,
    StripHeadd,
)
from strokelesion.transforms.brain import CLOSED_CAVITY_MM, in_one_piece
from strokelesion.transforms.geometry import is_outside

# Center and semi-axes of the parts of a small head, in RAS mm; nothing is symmetric.
SCALP_MM = ((2, -14, 0), (66, 78, 70))
SKULL_MM = ((2, -14, 2), (60, 72, 62))
BRAIN_MM = ((4, -18, 10), (50, 60, 44))
VENTRICLE_MM = ((6, -10, 14), (8, 26, 10))
INFARCT_MM = ((26, -30, 18), (16, 20, 14))
NECK_MM, NECK_TOP_MM = 30, -40
FIELD_MM = (150, 180, 176)


def inside(mm, center, radii, grow_mm=0.0):
    return np.sum(((mm - np.array(center)) / (np.array(radii) + grow_mm)) ** 2, axis=-1) <= 1


def coordinates(shape, affine):
    return apply_affine(affine, np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1))


def head(axcodes="RAS", voxel_mm=(2.0, 2.0, 2.0), tilt=0.0):
    """A head with scalp, dark skull, brain, ventricle, old infarct and a neck, and its world coordinates."""
    size = tuple(round(extent / edge) for extent, edge in zip(FIELD_MM, voxel_mm, strict=True))
    shape, affine = grid(axcodes, size, voxel_mm, tilt)
    mm = coordinates(shape, affine)
    image = np.where(inside(mm, *SCALP_MM), 110.0, 0.0)
    neck = (np.hypot(mm[..., 0] - 2, mm[..., 1] + 20) < NECK_MM) & (mm[..., 2] < NECK_TOP_MM)
    image[neck] = 80
    image[inside(mm, *SKULL_MM)] = 10
    image[inside(mm, *BRAIN_MM)] = 90
    for fluid in (VENTRICLE_MM, INFARCT_MM):
        image[inside(mm, *fluid)] = 25
    return MetaTensor(torch.tensor(image, dtype=torch.float32)[None], affine=torch.tensor(affine)), mm


@pytest.fixture(scope="module")
def plain():
    return head()[0]


@pytest.fixture(scope="module")
def whole(plain):
    return extractor()(plain)


def infer(window=256):
    return VolumeInferer((window, window), overlap=0.25, neighbors=0, batch=8, snug=True)


def extractor(level=0.5, threshold=0.5, window=256, **options):
    return BrainExtractor(BrainNetwork(BrightIsBrain(level), infer(window), **options), threshold=threshold)


def assert_is_brain(mask, mm, tolerance_mm):
    found = mask[0].numpy()
    assert found[inside(mm, *BRAIN_MM, -tolerance_mm)].all()
    assert not found[~inside(mm, *BRAIN_MM, tolerance_mm)].any()


@pytest.mark.parametrize(
    ("axcodes", "voxel_mm", "tilt"),
    [
        ("RAS", (1.0, 1.0, 1.0), 0),
        ("LAS", (2.0, 2.0, 2.0), 0),
        ("PSR", (1.3, 1.7, 2.2), 0),
        ("LIA", (1.0, 1.0, 3.0), 0),
        ("LPS", (1.1, 1.3, 1.5), 20),
        ("RAS", (1.0, 1.0, 3.0), -15),
    ],
)
def test_on_any_grid_the_brain_is_found_up_to_a_voxel_with_infarct_and_ventricle(axcodes, voxel_mm, tilt):
    image, mm = head(axcodes, voxel_mm, tilt)
    mask = extractor()(image)
    assert mask.shape == image.shape
    assert mask.dtype == torch.bool
    assert_is_brain(mask, mm, max(2.0, *voxel_mm))


@pytest.mark.parametrize("unit", [1e-3, 5.6e4])
def test_unit_scalp_and_brighter_pieces_do_not_matter(plain, whole, unit):
    assert torch.equal(extractor()(plain * unit), whole)
    assert torch.equal(extractor()(plain * whole), whole)
    spoiled = plain.clone()
    spoiled[0, 2:8, 2:8, 80:86] = 300
    assert torch.equal(extractor()(spoiled), whole)


def test_air_around_a_head_larger_than_the_slices_and_a_missing_neck_do_not_matter(plain, whole):
    """Slices larger than 48 pixels are tiled."""
    shift = plain.affine.clone()
    shift[:3, 3] -= shift[:3, :3] @ torch.tensor([9.0, 11, 13], dtype=shift.dtype)
    padded = MetaTensor(torch.nn.functional.pad(plain.as_tensor(), (13, 13, 11, 11, 9, 9)), affine=shift)
    assert torch.equal(extractor(window=48)(padded), torch.nn.functional.pad(whole, (13, 13, 11, 11, 9, 9)))
    upper = MetaTensor(plain.as_tensor()[..., 40:], affine=plain.affine)
    assert torch.equal(extractor()(upper)[..., 1:], whole[..., 41:])


# Halfway between two voxels rounding decides.
@pytest.mark.parametrize(("level", "edge", "found_ml"), [(2.9, 1, "0"), (0.5, 0.5, "69|70")])
def test_scans_without_brain_or_with_too_small_a_one_are_refused_in_words_that_help(plain, whole, level, edge, found_ml):
    small = MetaTensor((plain * whole).as_tensor(), affine=plain.affine * torch.tensor([edge, edge, edge, 1.0]))
    with pytest.raises(UserError, match=rf"found (?:{found_ml}) ml of brain; expected at least 100 ml.*T1 scan"):
        extractor(level)(small)


def test_the_image_is_left_as_it_was(plain):
    placed = Orientationd("image", axcodes="PSR", labels=None)({"image": plain})["image"]
    before, steps = placed.clone(), repr(placed.applied_operations)
    extractor()(placed)
    assert torch.equal(placed, before)
    assert torch.equal(placed.affine, before.affine)
    assert repr(placed.applied_operations) == steps


def test_threads_that_share_an_extractor_do_not_mix_up_their_scans(plain):
    scans = [plain, MetaTensor(plain.as_tensor()[..., 20:], affine=plain.affine), plain.flip(1), plain[:, 7:, 9:]] * 3
    shared = extractor(window=48)
    with ThreadPoolExecutor(4) as pool:
        for found, scan in zip(pool.map(shared, scans), scans, strict=True):
            assert torch.equal(found, shared(scan))


class FirstRowsAreBrain(torch.nn.Module):
    """Call brain the first half of the rows of each slice."""

    def forward(self, x):
        rows = torch.arange(x.shape[2]).view(1, 1, -1, 1).expand_as(x)
        brain = (rows < x.shape[2] / 2).float()
        return 20 * torch.cat([1 - brain, brain], dim=1)


@pytest.mark.parametrize(("plane", "axis"), [("axial", 0), ("coronal", 0), ("sagittal", 1)])
def test_each_plane_shows_the_network_its_own_slices_and_its_answer_comes_back(plane, axis):
    """Rows run left-right, in sagittal slices posterior-anterior."""
    ones = MetaTensor(torch.rand(1, 20, 24, 28) + 10, affine=torch.diag(torch.tensor([2.0, 2, 2, 1])))
    ones[:, 0, 0, 0] = 0  # else the darkest tissue would count as air
    found = BrainNetwork(FirstRowsAreBrain(), infer(), planes=(plane,))(ones).as_tensor() >= 0.5
    half = torch.arange(found.shape[1 + axis]) < found.shape[1 + axis] / 2
    expected = half.view([-1 if one == axis else 1 for one in range(3)]).expand(found.shape[1:])
    assert torch.equal(found[0], expected)


def test_planes_are_averaged_and_unknown_ones_or_two_scans_refused(plain):
    def found(*planes):
        return BrainNetwork(BrightIsBrain(), infer(), planes=planes)(plain).as_tensor()

    mean = (found("axial") + found("coronal") + found("sagittal")) / 3
    torch.testing.assert_close(found("axial", "coronal", "sagittal"), mean)
    with pytest.raises(UserError, match=r"got planes \['oblique'\]; expected some of axial, coronal, sagittal"):
        found("oblique")
    with pytest.raises(UserError, match="expected one"):
        ExtractBraind(["image", "label"], extractor())


def test_a_second_network_draws_the_surface_and_cannot_leave_what_the_first_found():
    """The last network takes all for brain, and may look 5 mm and a voxel or two of 2 mm beyond the brain of the first."""
    image, mm = head("LPS", (1.0, 1.2, 1.4))
    find, refine = (BrainNetwork(BrightIsBrain(0.5), infer(), spacing_mm) for spacing_mm in (2.0, 1.0))
    coarse, fine = BrainExtractor(find)(image), BrainExtractor(find, refine)(image)
    truth = torch.tensor(inside(mm, *BRAIN_MM))
    assert (fine[0] != truth).sum() < 0.7 * (coarse[0] != truth).sum()
    assert_is_brain(fine, mm, 1.5)
    everything = BrainNetwork(BrightIsBrain(-1.0), infer())
    held = BrainExtractor(find, everything, margin_mm=5)(image)
    assert held[0][torch.tensor(inside(mm, *BRAIN_MM, 2))].all()
    assert not held[0][torch.tensor(~inside(mm, *BRAIN_MM, 15))].any()


def test_small_holes_stay_where_they_may_and_other_pieces_go():
    probability = torch.zeros(1, 40, 50, 60)
    probability[:, 5:35, 5:45, 5:55] = 0.9
    small, large = (slice(None), 10, slice(10, 20), slice(10, 15)), (slice(None), slice(15, 30), slice(15, 30), slice(15, 30))
    probability[small] = probability[large] = 0.2
    probability[:, :2, :2, :2] = 0.9
    spacing_mm = (1.0, 1.0, 1.5)  # 0.075 and 5.1 ml
    one = MetaTensor(probability, affine=torch.diag(torch.tensor([*spacing_mm, 1.0])))
    for least_hole_ml, filled in ((0.0, (small, large)), (0.07, (small, large)), (0.08, (large,)), (6.0, ())):
        expected = probability.clone()
        expected[:, :2, :2, :2] = 0
        for hole in filled:
            expected[hole] = 1
        assert torch.equal(in_one_piece(one, 0.5, least_hole_ml).as_tensor(), expected)


def test_copies_share_the_network_and_the_fingerprint_follows_each_weight_and_setting():
    def chain(**options):
        return Recipe([ExtractBraind("image", extractor(**options))]).fingerprint

    def refined_chain(level=0.5, margin_mm=6):
        networks = (BrainNetwork(BrightIsBrain(one), infer()) for one in (0.5, level))
        return Recipe([ExtractBraind("image", BrainExtractor(*networks, margin_mm=margin_mm))]).fingerprint

    shared = Recipe([ExtractBraind("image", extractor())])
    assert deepcopy(shared).transforms[0].extract is shared.transforms[0].extract
    others = [chain(level=0.5000001), chain(threshold=0.4), chain(spacing_mm=2.5), chain(window=200)]
    others += [chain(planes=("coronal",)), refined_chain(), refined_chain(level=0.6), refined_chain(margin_mm=4)]
    assert len({chain(), *others}) == 9


def test_the_mask_lies_on_the_scans_grid_and_goes_back_with_it():
    image, mm = head("PSR", (1.3, 1.7, 2.2))
    place = Recipe(
        [
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=[1.5, 1.5, 1.5], mode="bilinear"),
            ExtractBraind("image", extractor()),
            ScaleTissued("image", mask_key="brain"),
            CropForegroundd(["image", "brain"], source_key="brain", margin=3, allow_smaller=True),
        ]
    )
    sample = place({"image": image})
    assert sample["brain"].dtype == torch.uint8
    assert sample["brain"].shape == sample["image"].shape
    assert torch.equal(sample["brain"].affine, sample["image"].affine)
    sample["pred"] = sample["brain"].float()
    back = Invertd("pred", transform=place, orig_keys="image", nearest_interp=False)(sample)["pred"]
    assert back.shape == image.shape
    assert torch.equal(back.affine, image.affine)
    assert_is_brain(back >= 0.5, mm, 3.0)


def masked_brain():
    """A brain of two blocks with a cavity between them, in voxels that differ along the axes, one of them at the edge."""
    brain = MetaTensor(torch.zeros(1, 9, 11, 7, dtype=torch.uint8), affine=torch.diag(torch.tensor([1.0, 2, 4, 1])))
    brain[0, 3:5, 4:7, 3] = brain[0, 7:, 4:6, 3:5] = 1
    return brain


def test_an_infarct_that_opens_to_the_surface_is_not_outside():
    brain = MetaTensor(torch.ones(1, 60, 70, 50, dtype=torch.uint8))
    brain[0, :12] = brain[0, :, :8] = brain[0, :, :, :8] = brain[0, 50:] = brain[0, :, 60:] = brain[0, :, :, 42:] = 0
    brain[0, 35:50, 30:44, 20:34] = 0
    outside = is_outside(brain, 3.0, CLOSED_CAVITY_MM)
    assert not outside[35:50, 30:44, 20:34].any()
    assert outside[:8].all()
    assert outside[56:].all()


@pytest.mark.parametrize(("transform", "outside"), [(KeepInBraind, [1.0, 0, 0]), (StripHeadd, [0.0, 0, 0])])
@given(margin_mm=st.floats(0, 9))
def test_volumes_stay_within_the_margin_and_are_background_or_air_beyond(transform, outside, margin_mm):
    volume = torch.rand(3, 9, 11, 7, generator=torch.Generator().manual_seed(0)).softmax(dim=0)
    sample = {"volume": volume.clone(), "brain": masked_brain()}
    out = transform("volume", margin_mm=margin_mm)(sample)["volume"]
    near = ~is_outside(sample["brain"], margin_mm, CLOSED_CAVITY_MM)
    assert torch.equal(out[:, near], volume[:, near])
    assert (out[:, ~near] == torch.tensor(outside)[:, None]).all()
    assert torch.equal(sample["volume"], volume)
