"""Augmentation: identity at zero strength, image and mask together, masks stay masks, the same seed the same batch."""

import numpy as np
import pytest
import torch
from augmented_slices import SPATIAL, augmented, labels_of, smooth_batch

from strokelesion.transforms import RandAugmentSlicesd


@pytest.fixture
def batch():
    return smooth_batch()


def test_zero_strength_or_probability_is_identity_bit_for_bit(batch):
    never = RandAugmentSlicesd(spatial_prob=0, intensity_prob=0, horizontal_flip_prob=0, vertical_flip_prob=0)
    for out in (augmented(batch), never.set_random_state(0)(batch)):
        assert all(torch.equal(out[key], batch[key]) for key in batch)


def test_image_and_mask_move_together(batch):
    out = augmented(batch, **SPATIAL)
    assert not torch.equal(out["label"], batch["label"])
    disagree = labels_of(out["image"]) != out["label"]
    assert disagree.float().mean() < 0.06  # nearest against linear, at the borders only
    inner = torch.nn.functional.max_pool2d((out["label"] != 1).float(), 5, 1, 2) == 0
    assert not disagree[inner].any()


@pytest.mark.parametrize("seed", range(5))
def test_masks_stay_label_maps_and_the_input_stays(batch, seed):
    before = {key: value.clone() for key, value in batch.items()}
    label = augmented(batch, seed, **SPATIAL, brightness=0.2, contrast=0.2)["label"]
    assert label.dtype == torch.uint8
    assert set(label.unique().tolist()) <= {0, 1, 2}
    assert all(torch.equal(batch[key], before[key]) for key in batch)


def test_intensities_leave_the_mask_and_air_alone(batch):
    out = augmented(batch, brightness=0.3, contrast=0.3)
    assert torch.equal(out["label"], batch["label"])
    assert not torch.equal(out["image"], batch["image"])
    assert (out["image"][batch["image"] == 0] == 0).all()


@pytest.mark.parametrize(("flip", "axis"), [("horizontal_flip_prob", 2), ("vertical_flip_prob", 3)])
def test_flips_mirror_one_axis_and_twice_is_identity(batch, flip, axis):
    once = augmented(batch, **{flip: 1.0})
    torch.testing.assert_close(once["image"], batch["image"].flip(axis), atol=1e-4, rtol=1e-4)
    assert torch.equal(once["label"], batch["label"].flip(axis))
    assert torch.equal(augmented(once, **{flip: 1.0})["label"], batch["label"])


def test_rotation_is_rigid_in_pixels():
    """A disk of radius 12 off the center of a wide slice stays a disk of its area, at its distance from the center."""
    h, w = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    disk = (((h - 31.5) ** 2 + (w - 65) ** 2) < 144).float()[None, None]
    out = augmented({"image": disk, "label": disk.to(torch.uint8)}, seed=3, rotation_deg=40)["label"][0, 0].float()
    center = torch.stack([(out * h).sum(), (out * w).sum()]) / out.sum()
    assert float(out.sum()) == pytest.approx(float(disk.sum()), rel=0.03)
    assert float((center - torch.tensor([31.5, 47.5])).norm()) == pytest.approx(17.5, abs=0.3)
    assert abs(center[0] - 31.5) > 1  # it did turn


def test_zoom_scales_areas():
    disk = torch.zeros(200, 1, 64, 96)
    disk[..., 22:42, 38:58] = 1
    out = augmented({"image": disk, "label": disk.to(torch.uint8)}, zoom=0.2)["label"].float().sum((1, 2, 3)) / 400
    assert out.min() == pytest.approx(1 / 1.2**2, rel=0.1)
    assert out.max() == pytest.approx(1 / 0.8**2, rel=0.1)


def test_the_grid_is_an_affine_map_plus_a_bicubic_field():
    """As torch makes both, one after the other."""
    transform = RandAugmentSlicesd(spatial_prob=1, horizontal_flip_prob=0.5, vertical_flip_prob=0.5).set_random_state(0)
    transform.randomize(9)
    height, width = 48, 72
    cos, sin = np.cos(transform._angle_rad), np.sin(transform._angle_rad)
    across, along = (transform._scale * transform._mirror).T
    pixel_map = np.array([[cos * along, -sin * across], [sin * along, cos * across]])  # x first, as grid_sample wants it
    to_unit = np.array([2 / width, 2 / height])
    unit_map = pixel_map.transpose(2, 0, 1) * to_unit[:, None] / to_unit
    theta = torch.tensor(np.pad(unit_map, ((0, 0), (0, 0), (0, 1))), dtype=torch.float32)
    field = torch.tensor(transform._field_px * to_unit[:, None, None], dtype=torch.float32)
    shift = torch.nn.functional.interpolate(field, size=(height, width), mode="bicubic", align_corners=True)
    expected = torch.nn.functional.affine_grid(theta, [9, 1, height, width], align_corners=False) + shift.permute(0, 2, 3, 1)
    found = transform._sampling_grid(np.arange(9), torch.zeros(9, 1, height, width))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_same_seed_gives_the_same_batch_and_another_another(batch):
    one, same, other = (augmented(batch, seed, **SPATIAL, contrast=0.2) for seed in (1, 1, 2))
    assert torch.equal(one["image"], same["image"])
    assert not torch.equal(one["image"], other["image"])


def test_slices_of_a_batch_get_different_variants(batch):
    same = {key: value[:1].repeat(4, 1, 1, 1) for key, value in batch.items()}
    out = augmented(same, **SPATIAL)["image"]
    assert all(not torch.equal(out[0], other) for other in out[1:])


def test_a_window_is_a_part_of_the_slices_the_same_of_image_and_mask(batch):
    out = augmented(batch, crop_size=[32, 48])
    assert out["image"].shape == out["label"].shape == (6, 1, 32, 48)
    assert torch.equal(out["label"], labels_of(out["image"]))
    windows = batch["image"].unfold(2, 32, 1).unfold(3, 48, 1)[0, 0]
    assert (windows == out["image"][0, 0]).all((-1, -2)).any()


def test_windows_come_from_everywhere_up_to_the_whole_slice(batch):
    starts = {tuple(augmented(batch, seed=seed, crop_size=[40, 72])["image"][0, 0, :, 30].tolist()) for seed in range(20)}
    assert len(starts) > 3
    whole = augmented(batch, crop_size=[48, 72])
    assert torch.equal(whole["image"], batch["image"])
    with pytest.raises(ValueError, match="allowed is up to their size"):
        augmented(batch, crop_size=[64, 48])
