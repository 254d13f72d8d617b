"""Filling of lesions: with the tissue of the other side, as bright as its surroundings; all other voxels stay as they are."""

from functools import cache

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from scipy.spatial.transform import Rotation

from strokelesion.networks import UserError
from strokelesion.transforms.filling import BORDER_MM, fill_lesions
from strokelesion.transforms.geometry import distances_mm

THINNED = 3
POSE = np.eye(4)
POSE[:3, :3] = Rotation.from_euler("xyz", (8, -6, 10), degrees=True).as_matrix() @ np.diag([1.05, 0.95, 1.1])
POSE[:3, 3] = 12, -9, 5
LEFT, RIGHT, MIDDLE = np.s_[12:22, 30:44, 30:40], np.s_[44:54, 30:44, 30:40], np.s_[28:38, 40:48, 30:36]


@cache
def head():
    """Return the template at 3 mm, turned, brighter on one side, with noise: image and brain."""
    thin = (slice(None, None, THINNED),) * 3
    t1, mask = (load(resolution=1) for load in (load_mni152_template, load_mni152_brain_mask))
    image, brain = (torch.from_numpy(np.asarray(part.dataobj, dtype=np.float32)[thin]) for part in (t1, mask))
    side = torch.linspace(0.9, 1.1, image.shape[0])[:, None, None]
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    affine = torch.from_numpy(np.linalg.inv(POSE) @ t1.affine @ np.diag([THINNED] * 3 + [1.0]))
    return MetaTensor((100 * image * side + noise)[None], affine=affine), brain > 0


def with_lesions(*boxes):
    """Return the head with dark boxes, and the mask of them."""
    image, brain = head()
    lesion = torch.zeros_like(brain)
    for box in boxes:
        lesion[box] = brain[box]
    return MetaTensor(torch.where(lesion, 5.0, image.as_tensor()), affine=image.affine), lesion[None]


@pytest.mark.parametrize("box", [LEFT, RIGHT])
@pytest.mark.parametrize("off_mm", [0.0, 4.0])
def test_a_lesion_is_filled_with_what_was_there_even_if_the_middle_plane_is_some_mm_off(box, off_mm):
    image, lesion = with_lesions(box)
    shift = np.eye(4)
    shift[0, 3] = off_mm
    filled, truth = fill_lesions(image, lesion, shift @ POSE).as_tensor(), head()[0].as_tensor()
    error = (filled - truth)[lesion].square().mean().sqrt()
    assert error < 0.1 * truth[lesion].mean()
    assert error < 0.5 * (truth[lesion] - truth[lesion].mean()).square().mean().sqrt()


def test_voxels_away_from_the_lesion_keep_their_bits_and_the_border_is_between():
    image, lesion = with_lesions(LEFT)
    filled = fill_lesions(image, lesion, POSE).as_tensor()
    distance_mm = distances_mm(lesion[0], (THINNED / 1.05, THINNED / 0.95, THINNED / 1.1))
    assert torch.equal(filled[0][distance_mm > BORDER_MM], image.as_tensor()[0][distance_mm > BORDER_MM])
    rim = (distance_mm > 0) & (distance_mm < BORDER_MM)
    assert (filled != image.as_tensor())[0][rim].float().mean() > 0.9


def test_a_scan_without_lesion_stays_as_it_is():
    image, lesion = with_lesions()
    assert torch.equal(fill_lesions(image, lesion, POSE).as_tensor(), image.as_tensor())


@pytest.mark.parametrize(
    ("boxes", "to_mni", "message"),
    [
        ((LEFT, RIGHT), POSE, r"\d+% of them have lesion, or the edge of the scan, at the mirrored place; allowed are 25%"),
        ((MIDDLE,), POSE, r"cannot be filled from the other side"),
        ((LEFT,), None, r"without the middle plane of the brain; expected a registration"),
    ],
)
def test_lesions_without_healthy_tissue_at_the_mirrored_place_are_refused(boxes, to_mni, message):
    with pytest.raises(UserError, match=message):
        fill_lesions(*with_lesions(*boxes), to_mni)


def test_lesions_that_touch_a_little_at_the_mirrored_place_are_filled_without_lesion():
    image, lesion = with_lesions(LEFT, np.s_[50:52, 36:38, 34:36])
    filled = fill_lesions(image, lesion, POSE).as_tensor()
    assert filled[lesion].min() > 15  # the lesion has 5
