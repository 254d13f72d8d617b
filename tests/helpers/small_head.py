"""A head of ellipsoids as a tissue map, small and unequal along its axes, in MNI millimeters, with a lesion mask to match."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from monai.data import MetaTensor

from strokelesion.pipeline.synthesis.cohort import Material
from strokelesion.transforms.synthesis import Tissue

SPACING_MM = 3.0
SHAPE = (61, 71, 57)
CENTER_MM = (0.0, -18.0, 10.0)
# From the outside in: half axes in mm.
SHELLS = {
    Tissue.SKIN: (86, 100, 80),
    Tissue.SOFT: (83, 97, 77),
    Tissue.BONE: (78, 92, 72),
    Tissue.CSF: (72, 86, 66),
    Tissue.CORTEX: (69, 83, 63),
    Tissue.WHITE: (62, 76, 56),
    Tissue.VENTRICLE: (12, 26, 12),
}


LEVELS = {
    Tissue.WHITE: 110.0, Tissue.CORTEX: 75.0, Tissue.HIPPOCAMPUS: 75.0, Tissue.VENTRICLE: 25.0, Tissue.CSF: 25.0,
    Tissue.BONE: 4.0, Tissue.SOFT: 60.0, Tissue.SKIN: 80.0, Tissue.AIR: 0.0,
}  # fmt: skip


def affine() -> torch.Tensor:
    """Return the affine of the head's grid."""
    matrix = np.diag([SPACING_MM] * 3 + [1.0])
    matrix[:3, 3] = np.array(CENTER_MM) - SPACING_MM * (np.array(SHAPE) - 1) / 2
    return torch.from_numpy(matrix)


def ball(center_mm: tuple[float, float, float], half_axes_mm: tuple[float, float, float]) -> torch.Tensor:
    """Return where an ellipsoid is."""
    axes = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    matrix = affine().numpy()
    offsets = [(matrix[a, a] * axes[a] + matrix[a, 3] - center_mm[a]) / half_axes_mm[a] for a in range(3)]
    return torch.from_numpy(sum(offset**2 for offset in offsets) <= 1)


def tissues() -> MetaTensor:
    """Return the tissue map `(1, X, Y, Z)`."""
    codes = torch.zeros(SHAPE, dtype=torch.uint8)
    for tissue, half_axes in SHELLS.items():
        codes[ball(CENTER_MM, half_axes)] = int(tissue)
    codes[ball((24, -20, -8), (9, 12, 9))] = int(Tissue.HIPPOCAMPUS)
    return MetaTensor(codes[None], affine=affine())


def t1(bright_share: float = 0) -> MetaTensor:
    """Return the T1 `(1, X, Y, Z)`: a level for each tissue, and noise; a share of the air's voxels is bright."""
    codes = tissues()
    levels = torch.zeros(len(Tissue))
    levels[[int(tissue) for tissue in LEVELS]] = torch.tensor(list(LEVELS.values()))
    noise = torch.Generator().manual_seed(0)
    image = levels[codes.as_tensor().long()] + 3 * torch.rand(codes.shape, generator=noise)
    bright = torch.rand(codes.shape, generator=noise) < bright_share
    image[bright & (codes.as_tensor() == Tissue.AIR)] = 100.0
    return MetaTensor(image, affine=codes.affine)


def lesion(center_mm: tuple[float, float, float] = (-40.0, -10.0, 15.0), radius_mm: float = 15.0) -> dict[str, Any]:
    """Return a ball as an item of `lesions`."""
    mask = ball(center_mm, (radius_mm, radius_mm, radius_mm)).float()
    return {"mask": MetaTensor(mask[None], affine=affine()), "scale": 1.0, "flip": False}


def sample(*lesions: dict[str, Any]) -> dict[str, Any]:
    """Return the sample as `RandPlaceHeadd` leaves it when nothing moves."""
    numbers = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    for number, item in enumerate(lesions, start=1):
        numbers[item["mask"].as_tensor() > 0] = number
    return {"tissues": tissues(), "native_tissues": tissues(), "lesions": MetaTensor(numbers, affine=affine())}


def material(folder: Path, persons: tuple[str, ...] = ("anna",), **lesions: tuple[float, float, float]) -> Material:
    """Write the head, once a person, and masks of balls by name and center (MNI, mm); return them as material."""
    centers = lesions or {"one": (-40.0, -10.0, 15.0)}
    volumes = {name: ball(center, (12.0, 16.0, 14.0)).numpy().astype(np.uint8) for name, center in centers.items()}
    for name, volume in {**volumes, **dict.fromkeys(persons, tissues()[0].numpy())}.items():
        nib.save(nib.Nifti1Image(volume, affine().numpy()), f"{folder}/{name}.nii")
    heads = [{"person": name, "tissues": f"{folder}/{name}.nii"} for name in persons]
    rows = [
        {"person": name, "path": f"{folder}/{name}.nii", "volume_ml": volume.sum() * SPACING_MM**3 / 1000, "components": 1}
        for name, volume in volumes.items()
    ]
    return Material(heads, pd.DataFrame(rows))
