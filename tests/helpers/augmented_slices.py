"""Slices to augment, with labels that follow from the image, and their augmentation by strengths that are given."""

import numpy as np
import torch

from strokelesion.transforms import RandAugmentSlicesd

STILL = {
    "rotation_deg": 0,
    "scaling": 0,
    "zoom": 0,
    "elastic_px": 0,
    "horizontal_flip_prob": 0,
    "vertical_flip_prob": 0,
    "brightness": 0,
    "contrast": 0,
}
SURE = {"spatial_prob": 1.0, "intensity_prob": 1.0}
SPATIAL = {
    "rotation_deg": 30,
    "scaling": 0.2,
    "zoom": 0.2,
    "elastic_px": 4,
    "horizontal_flip_prob": 0.5,
    "vertical_flip_prob": 0.5,
}


def smooth_batch():
    """Smooth blobs; the label map is what lies above two levels, so that it can be told from the image."""
    rng = np.random.default_rng(0)
    coarse = torch.tensor(rng.random((6, 1, 5, 6)), dtype=torch.float32)
    image = torch.nn.functional.interpolate(coarse, size=(48, 72), mode="bicubic").clamp(0, 1) * 0.9 + 0.1
    image[..., :9, :] = image[..., -8:, :] = image[..., :10] = image[..., -11:] = 0
    return {"image": image, "label": labels_of(image)}


def labels_of(image):
    return ((image > 0.5).to(torch.uint8) + (image > 0.8).to(torch.uint8)).to(torch.uint8)


def augmented(batch, seed=0, **strengths):
    transform = RandAugmentSlicesd(**{**STILL, **SURE, **strengths})
    transform.set_random_state(seed)
    return transform(batch)
