"""Procedural lesion masks for training without manual tracings: random shapes, with plausible sizes and locations."""

from functools import cache

import numpy as np
import torch
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image
from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template
from numpy.typing import NDArray

from strokelesion.transforms.geometry import bounding_box
from strokelesion.transforms.synthesis.fields import smooth_noise

# Semi-axes of the ellipsoid, relative to the radius of a ball of the same volume.
ASPECTS = (0.7, 1.4)
# Standard deviation and scale of the noise that displaces the outline, in radii.
NOISE_SD = 0.25
NOISE_SCALE = 0.7
# Size of the search region, in radii. Near the skull, a lesion must extend farther inward to reach its volume.
REACH = 3.0

Mask = NDArray[np.bool_]
Floats = NDArray[np.floating]
Voxels = NDArray[np.int64]


@cache
def parenchyma() -> tuple[Mask, Voxels, Floats]:
    """Return gray and white matter of MNI152 (2009a, 1 mm): the mask, its voxels `(N, 3)` and the affine."""
    gray, white = load_mni152_gm_template(resolution=1), load_mni152_wm_template(resolution=1)
    mask = np.asarray(gray.dataobj) + np.asarray(white.dataobj) > 0.5
    return mask, np.argwhere(mask), gray.affine


def procedural_lesion(volume_ml: float, rng: np.random.Generator, center_mm: tuple[float, ...] | None = None) -> Nifti1Image:
    """Return the binary mask of one lesion in MNI space at 1 mm, cropped.

    1. Draw a voxel of gray or white matter as its center, unless a center is given.
    2. Compute the distance of each voxel to the center, |offset / semi-axes| of an ellipsoid, plus smooth noise.
    3. Keep the nearest voxels of gray and white matter on the same side of the midline, 1,000 voxels per milliliter.

    Args:
        volume_ml: Volume of the lesion, at most a hemisphere.
        rng: Random number generator.
        center_mm: Center in MNI space.
    """
    brain, voxels, affine = parenchyma()
    if center_mm is None:
        center = voxels[rng.integers(len(voxels))]
    else:
        center = apply_affine(np.linalg.inv(affine), center_mm).round().astype(np.int64)
    radius = (1000 * volume_ml * 3 / (4 * np.pi)) ** (1 / 3)
    start = np.maximum(center - int(REACH * radius) - 1, 0)
    stop = np.minimum(center + int(REACH * radius) + 2, brain.shape)
    box = tuple(slice(first, last) for first, last in zip(start, stop, strict=True))
    x_mm = affine[0, 0] * np.arange(brain.shape[0]) + affine[0, 3]
    is_on_side = (x_mm >= 0) == (x_mm[center[0]] >= 0)
    allowed = brain[box] & is_on_side[box[0], None, None]
    count = min(max(1, round(1000 * volume_ml)), int(allowed.sum()))
    away = distance(center - start, allowed.shape, radius, rng)
    mask = allowed & (away <= np.partition(away[allowed], count - 1)[count - 1])
    return cropped(mask, start, affine)


def distance(center: Voxels, shape: tuple[int, ...], radius: float, rng: np.random.Generator) -> Floats:
    """Return the distance to a center in semi-axes of an ellipsoid, plus smooth noise."""
    aspects = rng.uniform(*ASPECTS, size=3)
    offsets = np.ogrid[tuple(slice(-first, size - first) for first, size in zip(center, shape, strict=True))]
    squares = [(offset / (radius * aspect)) ** 2 for offset, aspect in zip(offsets, aspects, strict=True)]
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    noise = smooth_noise(shape, 1.0, NOISE_SCALE * radius, generator)[0].numpy()
    return np.asarray(np.sqrt(sum(squares)) + NOISE_SD * noise)


def cropped(mask: Mask, start: Voxels, affine: Floats) -> Nifti1Image:
    """Return the mask as NIfTI, cropped to its bounding box, with its affine to MNI space."""
    box, moved = bounding_box(mask), affine.copy()
    moved[:3, 3] = apply_affine(affine, start + [side.start for side in box])
    nifti = Nifti1Image(mask[box].astype(np.uint8), None)
    nifti.set_sform(moved, code="mni")
    return nifti
