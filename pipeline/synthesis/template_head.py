"""Tissue map of one whole head for the phantom, without files from outside: MNI152, which nilearn contains, in skull and scalp.

Source of the brain: Fonov et al., NeuroImage 54 (2011), MNI ICBM152 nonlinear symmetric 2009a.
"""

from functools import cache

import numpy as np
import torch
from monai.data import MetaTensor
from nilearn.datasets import load_mni152_template, load_mni152_wm_template
from numpy.typing import NDArray

from strokelesion.transforms.synthesis.fields import blurred, closed, distance_mm, smooth_noise
from strokelesion.transforms.synthesis.tissues import Tissue

# Layers around the brain, from inside to outside, and the distance from the brain at which each ends.
LAYERS = (Tissue.CSF, Tissue.BONE, Tissue.MARROW, Tissue.BONE, Tissue.SOFT, Tissue.SKIN, Tissue.AIR)
ENDS_MM = (2.3, 3.6, 6.0, 7.6, 12.5, 14.0)
SKULL_MM = ENDS_MM[3]
# The skull bridges gaps of the brain up to twice this width.
CISTERN_MM = 10.0
# Ellipsoids in MNI space: center and half axes.
NECK_MM = ((0, -25, -85), (78, 84, 75))
VENTRICLES_MM = ((0, -10, 8), (34, 45, 22))
# Least intensity of gray matter in the sharpened template.
GRAY_AT_LEAST = 0.5

Floats = NDArray[np.floating]


@cache
def template_head() -> MetaTensor:
    """Return the map of `Tissue` `(1, 197, 233, 189)` of a head at 1 mm, with its affine to MNI space.

    1. Outside the brain, the distance to it decides the layer: CSF, skull, scalp. The distance varies by a few percent, so
       that the layers are not equally thick everywhere. An ellipsoid is the neck.
    2. Inside, white matter is where its probability is above 0.5, and gray matter where the sharpened template is bright.
       The template must be sharpened, because it is an average of heads.
    3. The rest is ventricle in an ellipsoid around the lateral ventricles, and CSF elsewhere.
    """
    template = load_mni152_template(resolution=1)
    image, white = (
        torch.from_numpy(np.asarray(nifti.dataobj, dtype=np.float32))
        for nifti in (template, load_mni152_wm_template(resolution=1))
    )
    brain = image > 0
    sharp = image + 0.7 * (image - blurred(image, 2.0, 1.0))
    codes = layers_around(brain, template.affine)
    codes[brain] = int(Tissue.CSF)
    codes[brain & is_in_ellipsoid(VENTRICLES_MM, brain.shape, template.affine)] = int(Tissue.VENTRICLE)
    codes[brain & (sharp > GRAY_AT_LEAST)] = int(Tissue.CORTEX)
    codes[brain & (white > 0.5)] = int(Tissue.WHITE)
    return MetaTensor(codes[None], affine=torch.from_numpy(template.affine))


def layers_around(brain: torch.Tensor, affine: Floats) -> torch.Tensor:
    """Return the tissue codes `(X, Y, Z)` around a brain; those inside are to be replaced."""
    variation = smooth_noise(brain.shape, 1.0, 40.0, torch.Generator().manual_seed(0))[0]
    outside_mm = distance_mm(closed(brain, CISTERN_MM, 1.0), 1.0) * (1 + 0.06 * variation)
    codes = torch.tensor(LAYERS, dtype=torch.uint8)[torch.bucketize(outside_mm, torch.tensor(ENDS_MM))]
    codes[is_in_ellipsoid(NECK_MM, brain.shape, affine) & (outside_mm > SKULL_MM)] = int(Tissue.SOFT)
    return codes


def is_in_ellipsoid(ellipsoid: tuple[tuple[int, ...], tuple[int, ...]], shape: tuple[int, ...], affine: Floats) -> torch.Tensor:
    """Return the mask of a grid without rotation in an ellipsoid: center and half axes in world millimeters."""
    x, y, z = (
        torch.from_numpy((np.arange(size) * affine[axis, axis] + affine[axis, 3] - center) / half_axis)
        for axis, (size, center, half_axis) in enumerate(zip(shape, *ellipsoid, strict=True))
    )
    inside: torch.Tensor = x[:, None, None] ** 2 + y[:, None] ** 2 + z**2 < 1
    return inside
