"""The intensity scale: any scanner's unit, any amount of air, bright outliers; contrast is kept."""

import pytest
import torch

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
    assert out[:, 6:9, 7:10, 5:8].mean() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("unit", [1e-3, 70 / 100, 5.6e4])
def test_the_scanners_unit_does_not_matter(head, unit):
    torch.testing.assert_close(scaled(head * unit), scaled(head), rtol=1e-4, atol=1e-5)


def test_a_few_extreme_voxels_do_not_move_the_scale(head):
    spoiled = head.clone()
    spoiled[0, 10, 10, 10:13] = 1e6
    changed = (scaled(spoiled) - scaled(head)).abs() > 0.02
    assert changed.sum() == 3


def test_more_air_around_the_head_does_not_move_the_scale(head):
    padded = torch.nn.functional.pad(head, (11,) * 6)
    torch.testing.assert_close(scaled(padded)[:, 11:-11, 11:-11, 11:-11], scaled(head))


def test_noisy_air_with_an_offset_is_air(head):
    noisy = head + 5 + torch.rand_like(head)
    out = scaled(noisy)
    assert out[head == 0].max() < 0.1
    assert out[head > 0].median() == pytest.approx(1, abs=0.05)


def test_tissue_is_what_is_not_air(head):
    assert torch.equal(is_tissue(scaled(head)), head > 0)


def test_the_input_is_not_changed(head):
    before = head.clone()
    scaled(head)
    assert torch.equal(head, before)


def test_tiny_negative_values_of_interpolation_pass(head):
    rippled = head - 0.0003
    torch.testing.assert_close(scaled(rippled), scaled(head), atol=0.01, rtol=0.01)


@pytest.mark.parametrize("spoil", [lambda x: (x - 60) / 10, lambda x: (x - 60) * (x > 0), lambda x: -x])
def test_z_scores_and_other_signed_images_are_refused(head, spoil):
    with pytest.raises(UserError, match="negative intensities"):
        scaled(spoil(head))


@pytest.mark.parametrize(("value", "reason"), [(0.0, "constant"), (7.0, "constant"), (float("nan"), "NaN")])
def test_images_without_contrast_are_refused(value, reason):
    with pytest.raises(UserError, match=reason):
        scaled(torch.full((1, 4, 5, 6), value))
