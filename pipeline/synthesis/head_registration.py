"""Affine registration of a head to MNI space by its tissue map, independent of the contrast of its scan.

Tissue map and template are converted to T1-like images: white matter 1, gray matter 0.6, all else 0.
"""

from functools import cache
from typing import cast

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import BorderPad
from nibabel.affines import from_matvec, voxel_sizes
from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template

from strokelesion.transforms.alignment import Affine, Level, align, center_mm
from strokelesion.transforms.registration import at_two_mm, checked
from strokelesion.transforms.synthesis.tissues import Tissue, is_brain

LEVELS = (Level(4, 4.0), Level(2, 2.0))
GRAY_LEVEL = 0.6
WHITE_TISSUES = (Tissue.WHITE, Tissue.STEM, Tissue.CEREBELLAR_WHITE, Tissue.HYPOINTENSE, Tissue.PALLIDUM)
FLUID_TISSUES = (Tissue.VENTRICLE, Tissue.CHOROID)
# A closely cropped brain needs a background border, so that the cost function includes the background.
BORDER_MM = 40
# Correlation of 18 correctly registered heads: .69 to .92, lowest with large ventricles. Upside-down or half heads: up to .60.
CORRELATION_AT_LEAST = 0.63


def register_to_mni(tissues: MetaTensor) -> Affine:
    """Return the affine `(4, 4)` from a head's millimeters (RAS) to those of MNI152.

    1. Convert the tissues and the template to T1-like images at 2 mm.
    2. Align the centers of mass.
    3. Maximize the mutual information over all 12 parameters, smoothed by 4 mm and then by 2 mm.
    4. Check the volume ratio and, inside the template, the correlation.

    Args:
        tissues: Map of `Tissue` `(1, X, Y, Z)` with its affine in RAS.

    Raises:
        UserError: The result fails a check.
    """
    fixed, head = template(), t1_like(tissues)
    to_head: Affine = from_matvec(np.eye(3), center_mm(head) - center_mm(fixed))
    for level in LEVELS:
        to_head = align(fixed, head, to_head, level)
    return checked(fixed, head, to_head, CORRELATION_AT_LEAST).to_mni


@cache
def template() -> MetaTensor:
    """Return the MNI152 template (2009a, symmetric) as a T1-like image at 2 mm."""
    white, gray = load_mni152_wm_template(resolution=1), load_mni152_gm_template(resolution=1)
    image = np.asarray(white.dataobj, dtype=np.float32) + GRAY_LEVEL * np.asarray(gray.dataobj, dtype=np.float32)
    return at_two_mm(MetaTensor(torch.from_numpy(image)[None], affine=torch.from_numpy(white.affine)))


def t1_like(tissues: MetaTensor) -> MetaTensor:
    """Return a tissue map as a T1-like image at 2 mm, with a border of zeros."""
    levels = is_brain(torch.arange(len(Tissue))) * GRAY_LEVEL
    levels[list(WHITE_TISSUES)], levels[list(FLUID_TISSUES)] = 1.0, 0.0
    image = MetaTensor(levels[tissues.as_tensor().long()], affine=tissues.affine)
    border = np.ceil(BORDER_MM / voxel_sizes(tissues.affine.numpy())).astype(int)
    return at_two_mm(cast(MetaTensor, BorderPad(border.repeat(2).tolist())(image)))
