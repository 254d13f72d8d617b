"""Brain extraction with stand-ins for the network: any grid, any unit, shared network, and what keeps to the brain."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch
from atlas import grid
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import CropForegroundd, Invertd, Orientationd, Spacingd
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial import cKDTree
from stand_ins import BrightIsBrain

from strokelesion.networks import UserError
from strokelesion.networks.volume import VolumeInferer
from strokelesion.transforms import (
    BrainExtractor,
    BrainNetwork,
    ExtractBraind,
    ExtractSlicesd,
    KeepInBraind,
    Recipe,
    ScaleTissued,
    StripHeadd,
)
from strokelesion.transforms.brain import in_one_piece, outside_of

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
def test_the_scanners_unit_does_not_matter(plain, unit):
    assert torch.equal(extractor()(plain * unit), extractor()(plain))


def test_air_around_a_head_larger_than_the_slices_does_not_matter(plain):
    """Slices larger than 48 pixels are tiled."""
    shift = plain.affine.clone()
    shift[:3, 3] -= shift[:3, :3] @ torch.tensor([9.0, 11, 13], dtype=shift.dtype)
    padded = MetaTensor(torch.nn.functional.pad(plain.as_tensor(), (13, 13, 11, 11, 9, 9)), affine=shift)
    found = extractor(window=48)(padded)
    assert torch.equal(found[:, 9:-9, 11:-11, 13:-13], extractor()(plain))
    assert found.sum() == extractor()(plain).sum()


def test_stripped_and_cropped_heads_give_the_same_brain(plain):
    whole = extractor()(plain)
    stripped = plain * whole
    assert torch.equal(extractor()(stripped), whole)
    upper = MetaTensor(plain.as_tensor()[..., 40:], affine=plain.affine)
    assert torch.equal(extractor()(upper)[..., 1:], whole[..., 41:])


# Halfway between two voxels rounding decides.
@pytest.mark.parametrize(("level", "edge", "found_ml"), [(2.9, 1, "0"), (0.5, 0.5, "69|70")])
def test_scans_without_brain_or_with_too_small_a_one_are_refused_in_words_that_help(plain, level, edge, found_ml):
    small = MetaTensor((plain * extractor()(plain)).as_tensor(), affine=plain.affine * torch.tensor([edge, edge, edge, 1.0]))
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


def test_planes_are_averaged_and_others_refused(plain):
    def found(*planes):
        return BrainNetwork(BrightIsBrain(), infer(), planes=planes)(plain).as_tensor()

    mean = (found("axial") + found("coronal") + found("sagittal")) / 3
    torch.testing.assert_close(found("axial", "coronal", "sagittal"), mean)
    with pytest.raises(UserError, match=r"got planes \['oblique'\]; expected some of axial, coronal, sagittal"):
        found("oblique")


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


def test_copies_of_a_chain_share_the_network():
    chain = Recipe([ExtractBraind("image", extractor())])
    assert deepcopy(chain).transforms[0].extract is chain.transforms[0].extract


def test_the_fingerprint_follows_each_weight_and_setting():
    def chain(**options):
        return Recipe([ExtractBraind("image", extractor(**options))]).fingerprint

    def refined_chain(level=0.5, margin_mm=6):
        networks = (BrainNetwork(BrightIsBrain(one), infer()) for one in (0.5, level))
        return Recipe([ExtractBraind("image", BrainExtractor(*networks, margin_mm=margin_mm))]).fingerprint

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


def test_only_one_scan_is_taken():
    with pytest.raises(UserError, match="expected one"):
        ExtractBraind(["image", "label"], extractor())


# The bundles' margin, on a grid whose voxels differ along the axes.
VOXELS_MM = (1.0, 2.0, 4.0)


def masked_brain():
    """A brain of two blocks with a cavity between them, on a small grid, one of them at its edge."""
    brain = MetaTensor(torch.zeros(1, 9, 11, 7, dtype=torch.uint8), affine=torch.diag(torch.tensor([*VOXELS_MM, 1.0])))
    brain[0, 3:5, 4:7, 3] = 1
    brain[0, 7:, 4:6, 3:5] = 1
    return brain


def untied(reach_mm):
    """Distances between voxels of whole millimeters are roots of whole numbers; rounding decides on none of them."""
    return 0.01 < reach_mm**2 % 1 < 0.99


@given(margin_mm=st.floats(0.1, 9).filter(untied), cavity_mm=st.floats(0.1, 6).filter(untied) | st.just(0))
def test_outside_is_what_distances_say(margin_mm, cavity_mm):
    assume(untied(margin_mm + cavity_mm))
    brain, rims = masked_brain(), (16, 8, 4)
    padded = np.pad(brain[0].numpy(), [(rim, rim) for rim in rims])
    mm = np.argwhere(np.ones(padded.shape)) * VOXELS_MM
    outside = cKDTree(mm[padded.ravel() > 0]).query(mm)[0] > margin_mm + cavity_mm
    if cavity_mm > 0:
        outside = cKDTree(mm[outside]).query(mm)[0] <= cavity_mm
    expected = outside.reshape(padded.shape)[16:-16, 8:-8, 4:-4]
    assert np.array_equal(outside_of(brain, margin_mm, cavity_mm), expected)


def test_an_infarct_that_opens_to_the_surface_is_not_outside():
    brain = MetaTensor(torch.ones(1, 60, 70, 50, dtype=torch.uint8))
    brain[0, :12] = brain[0, :, :8] = brain[0, :, :, :8] = brain[0, 50:] = brain[0, :, 60:] = brain[0, :, :, 42:] = 0
    brain[0, 35:50, 30:44, 20:34] = 0
    outside = outside_of(brain, 3.0)
    assert not outside[35:50, 30:44, 20:34].any()
    assert outside[:8].all()
    assert outside[56:].all()


def test_on_fine_grids_the_border_is_where_it_is_on_coarse_ones():
    axes = np.indices((61, 72, 58)) - np.array([30, 36, 28])[:, None, None, None]
    ball = MetaTensor(torch.as_tensor((axes**2).sum(0) <= 20**2)[None].to(torch.uint8), affine=torch.eye(4))
    distance_mm = np.sqrt((axes**2).sum(0)) - 20
    outside = outside_of(ball, 5.0).numpy()
    assert outside[distance_mm > 6.5].all()
    assert not outside[distance_mm < 3.5].any()


@given(margin_mm=st.floats(0, 9), seed=st.integers(0, 99))
def test_predictions_stand_within_the_margin_and_are_background_beyond(margin_mm, seed):
    torch.manual_seed(seed)
    pred = torch.rand(3, 9, 11, 7).softmax(dim=0)
    sample = {"pred": pred, "brain": masked_brain()}
    out = KeepInBraind("pred", margin_mm=margin_mm)(sample)["pred"]
    near = ~outside_of(sample["brain"], margin_mm)
    assert torch.equal(out[:, near], pred[:, near])
    assert (out[:, ~near] == torch.tensor([[1.0], [0], [0]])).all()
    assert sample["pred"] is pred
    torch.testing.assert_close(pred.sum(0), torch.ones(9, 11, 7))


def test_a_stripped_head_is_air_outside_and_as_it_was_inside():
    image = torch.rand(1, 9, 11, 7) + 1
    sample = {"image": image, "brain": masked_brain()}
    out = StripHeadd("image", margin_mm=1)(sample)["image"]
    outside = outside_of(sample["brain"], 1)
    assert (out[:, outside] == 0).all()
    assert torch.equal(out[:, ~outside], image[:, ~outside])
    assert 0 < outside.float().mean() < 1
    assert sample["image"] is image


def test_slices_with_brain_are_those_of_the_mask():
    image, label = torch.ones(1, 23, 27, 11), torch.zeros(1, 23, 27, 11)
    brain = torch.zeros(1, 23, 27, 11)
    brain[0, 11, 13, 4:8] = 1
    label[0, 5, 6, 2] = 1
    image *= torch.arange(11)  # names each slice
    out = ExtractSlicesd(["image", "label"], (32, 40), "brain")({"image": image, "label": label, "brain": brain})
    assert out["image"].amax((1, 2, 3)).tolist() == [2, 4, 5, 6, 7]


# Shares and intensities of a brain of 1,200 ml, white matter 1; in one voxel of 16 microliters each.
FLUID, GRAY, WHITE = (0.10, 0.25, 0.05), (0.45, 0.70, 0.05), (0.45, 1.0, 0.06)
BRAIN_VOXELS = 75_000


def tissue_samples(rng):
    parts = [rng.normal(mean, deviation, round(share * BRAIN_VOXELS)) for share, mean, deviation in (FLUID, GRAY, WHITE)]
    return np.concatenate(parts).clip(0.02)


def scaled(brain, rest=()):
    """Scale a volume of air, brain and other voxels; return the brain's."""
    values = np.concatenate([np.zeros(BRAIN_VOXELS), brain, rest])
    image = torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)
    mask = torch.zeros_like(image)
    mask[:, BRAIN_VOXELS : BRAIN_VOXELS + len(brain)] = 1
    out = ScaleTissued("image", mask_key="brain")({"image": image, "brain": mask})["image"]
    return out[:, BRAIN_VOXELS : BRAIN_VOXELS + len(brain)].flatten()


@settings(max_examples=25)
@given(white_share=st.floats(0, 1), dark=st.floats(0.03, 0.4), seed=st.integers(0, 9))
def test_an_infarct_of_200_ml_moves_the_scale_by_less_than_5_percent(white_share, dark, seed):
    rng = np.random.default_rng(seed)
    brain = tissue_samples(rng)
    lost = round(BRAIN_VOXELS * 200 / 1200)
    injured = brain.copy()
    injured[-round(lost * white_share) or len(brain) :] = dark
    first_gray = round(FLUID[0] * BRAIN_VOXELS)
    injured[first_gray : first_gray + lost - round(lost * white_share)] = dark
    assert (injured == dark).sum() == lost
    healthy_tissue = len(brain) // 2
    ratio = scaled(injured)[healthy_tissue] / scaled(brain)[healthy_tissue]
    assert ratio == pytest.approx(1, abs=0.05)


def test_white_matter_becomes_one_whatever_surrounds_the_brain():
    brain = tissue_samples(np.random.default_rng(0))
    white = slice(-round(WHITE[0] * BRAIN_VOXELS), None)
    assert scaled(brain)[white].median() == pytest.approx(1, abs=0.03)
    torch.testing.assert_close(scaled(brain, rest=np.full(50_000, 2.5)), scaled(brain))
    torch.testing.assert_close(scaled(brain * 3e4), scaled(brain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("brain", [np.zeros(9), np.zeros(0)])
def test_brain_masks_without_brain_are_refused(brain):
    with pytest.raises(UserError, match="empty or as dark as air"):
        scaled(brain, rest=np.linspace(1, 2, 50))


def test_only_the_largest_piece_is_brain_even_if_another_is_brighter(plain):
    spoiled = plain.clone()
    spoiled[0, 2:8, 2:8, 80:86] = 300
    assert torch.equal(extractor()(spoiled), extractor()(plain))
    _, pieces = ndimage.label(extractor()(spoiled)[0].numpy(), structure=np.ones((3, 3, 3)))
    assert pieces == 1
