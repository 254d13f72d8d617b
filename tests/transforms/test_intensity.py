"""The intensity scale: any scanner's unit, any amount of air, bright outliers; contrast is kept."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strokelesion.networks import UserError
from strokelesion.transforms import ScaleTissued, is_tissue

SCALE = ScaleTissued("image")


@pytest.fixture
def head():
    torch.manual_seed(0)
    image = torch.zeros(1, 23, 29, 19)
    image[:, 4:19, 5:24, 3:16] = 60 + 10 * torch.randn(1, 15, 19, 13)
    image[:, 6:9, 7:10, 5:8] = 15  # a cavity
    return image


def scaled(image):
    return SCALE({"image": image})["image"]


def test_air_becomes_zero_and_the_median_tissue_one(head):
    out = scaled(head)
    assert out[head == 0].max() == 0
    assert out[head > 0].median() == pytest.approx(1, abs=0.02)
    assert torch.equal(is_tissue(out), head > 0)
    assert out[:, 6:9, 7:10, 5:8].mean() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("unit", [1e-3, 70 / 100, 5.6e4])
def test_the_scanners_unit_does_not_matter_and_the_input_stays(head, unit):
    before = head.clone()
    assert scaled(head) is not head
    assert torch.equal(head, before)
    torch.testing.assert_close(scaled(head * unit), scaled(head), rtol=1e-4, atol=1e-5)


def test_a_few_extreme_voxels_or_more_air_do_not_move_the_scale(head):
    spoiled = head.clone()
    spoiled[0, 10, 10, 10:13] = 1e6
    changed = (scaled(spoiled) - scaled(head)).abs() > 0.02
    assert changed.sum() == 3
    padded = torch.nn.functional.pad(head, (11,) * 6)
    torch.testing.assert_close(scaled(padded)[:, 11:-11, 11:-11, 11:-11], scaled(head))


def test_noisy_air_with_an_offset_is_air(head):
    noisy = head + 5 + torch.rand_like(head)
    out = scaled(noisy)
    assert out[head == 0].max() < 0.1
    assert out[head > 0].median() == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(scaled(head - 0.0003), scaled(head), atol=0.01, rtol=0.01)  # ripples of interpolation


@pytest.mark.parametrize("spoil", [lambda x: (x - 60) / 10, lambda x: (x - 60) * (x > 0), lambda x: -x])
def test_z_scores_and_other_signed_images_are_refused(head, spoil):
    with pytest.raises(UserError, match="negative intensities"):
        scaled(spoil(head))


@pytest.mark.parametrize(("value", "reason"), [(0.0, "constant"), (7.0, "constant"), (float("nan"), "NaN")])
def test_images_without_contrast_are_refused(value, reason):
    with pytest.raises(UserError, match=reason):
        scaled(torch.full((1, 4, 5, 6), value))


# Shares and intensities of a brain of 1,200 ml, white matter 1; in one voxel of 16 microliters each.
FLUID, GRAY, WHITE = (0.10, 0.25, 0.05), (0.45, 0.70, 0.05), (0.45, 1.0, 0.06)
BRAIN_VOXELS = 75_000


def tissue_samples(rng):
    parts = [rng.normal(mean, deviation, round(share * BRAIN_VOXELS)) for share, mean, deviation in (FLUID, GRAY, WHITE)]
    return np.concatenate(parts).clip(0.02)


def scaled_brain(brain, rest=()):
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
    ratio = scaled_brain(injured)[healthy_tissue] / scaled_brain(brain)[healthy_tissue]
    assert ratio == pytest.approx(1, abs=0.05)


def test_white_matter_becomes_one_whatever_surrounds_the_brain():
    brain = tissue_samples(np.random.default_rng(0))
    white = slice(-round(WHITE[0] * BRAIN_VOXELS), None)
    assert scaled_brain(brain)[white].median() == pytest.approx(1, abs=0.03)
    torch.testing.assert_close(scaled_brain(brain, rest=np.full(50_000, 2.5)), scaled_brain(brain))
    torch.testing.assert_close(scaled_brain(brain * 3e4), scaled_brain(brain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("brain", [np.zeros(9), np.zeros(0)])
def test_brain_masks_without_brain_are_refused(brain):
    with pytest.raises(UserError, match="empty or as dark as air"):
        scaled_brain(brain, rest=np.linspace(1, 2, 50))
