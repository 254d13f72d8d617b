"""The tissues of a head that nobody labeled in full: from its T1, a brain mask, or labels of the brain alone.

Rough on purpose. A synthetic scan needs plausible shapes of gray and white matter, fluid where fluid is, and something
bright around the skull; it does not need the true segmentation of this person.
"""

import itk
import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label, median

from strokelesion.networks import UserError
from strokelesion.transforms import ScaleTissued, is_tissue
from strokelesion.transforms.synthesis.tissues import Tissue, is_inside_skull

# Gaps of the brain up to twice as wide hold fluid.
CLOSING_MM = 3.0
# Fluid farther than this from the edge of the brain is taken apart, and what lies this deep on median is ventricle. On two
# labeled heads the ventricles so found have a Dice of .84 and .81; without taking apart, sulci and ventricles are one.
SULCAL_DEPTH_MM = 8.0
VENTRICLE_DEPTH_MM = 15.0
# Bright pieces below this are noise. A scalp can be a piece of its own where the skull is dark all around.
SPECK_ML = 1.0

Mask = NDArray[np.bool_]
Floats = NDArray[np.floating]


def has_surroundings(tissues: torch.Tensor) -> bool:
    """Return whether a tissue map shows what lies outside the brain."""
    return bool(((tissues > Tissue.CSF) & (tissues < Tissue.UNKNOWN)).any())


def add_surroundings(tissues: MetaTensor, image: MetaTensor | None = None) -> MetaTensor:
    """Return a tissue map of the brain with what surrounds it.

    1. Close what is labeled by 3 mm; what that adds is CSF.
    2. Outside, where the T1 is brighter than air, there is `UNKNOWN`.

    Args:
        tissues: map of `Tissue` `(1, X, Y, Z)`, brain only.
        image: T1 on the same grid; without it the map stays that of a stripped brain.
    """
    labeled = is_inside_skull(tissues.as_tensor())
    inside = torch.from_numpy(close(labeled[0].numpy(), spacing_mm(tissues)))[None]
    whole = tissues.as_tensor().clone()
    whole[inside & ~labeled] = int(Tissue.CSF)
    if image is not None:
        whole[is_head(image, inside) & ~inside] = int(Tissue.UNKNOWN)
    return MetaTensor(whole, affine=tissues.affine)


def spacing_mm(volume: MetaTensor) -> Floats:
    """Return the voxel size along each axis."""
    sizes: Floats = voxel_sizes(volume.affine.numpy())
    return sizes


def close(mask: Mask, spacing_mm: Floats) -> Mask:
    """Return a mask closed by a ball, through distances, which is faster than the ball."""
    margin = [(int(np.ceil(CLOSING_MM / size)) + 1,) * 2 for size in spacing_mm]
    grown = distance_transform_edt(~np.pad(mask, margin), spacing_mm) <= CLOSING_MM
    closed = distance_transform_edt(grown, spacing_mm) > CLOSING_MM
    inner = tuple(slice(before, -after) for before, after in margin)
    return np.asarray(closed[inner], dtype=bool) | mask


def is_head(image: MetaTensor, brain: torch.Tensor) -> torch.Tensor:
    """Return what is brain or brighter than air, `(1, X, Y, Z)`, without the specks of noise in the air."""
    bright = is_tissue(ScaleTissued("image")({"image": image.as_tensor()})["image"])
    pieces, _ = label((bright | brain)[0].numpy())
    large = np.bincount(pieces.ravel()) * np.prod(spacing_mm(image)) / 1000 >= SPECK_ML
    large[0] = False
    return torch.from_numpy(large[pieces])[None]


def classify(image: MetaTensor, brain: torch.Tensor) -> MetaTensor:
    """Return a tissue map of a T1 within a brain mask.

    1. Otsu's two thresholds cut the brain into dark, middle and bright: fluid, gray matter, white matter.
    2. Of the fluid more than 8 mm below the edge, 6-connected pieces with a median depth of more than 15 mm are ventricle.

    Args:
        image: T1 `(1, X, Y, Z)`, white matter brighter than gray.
        brain: mask `(1, X, Y, Z)`, ventricles and sulci included.

    Returns:
        `VENTRICLE`, `CSF`, `CORTEX` and `WHITE`; `AIR` outside the mask.

    Raises:
        UserError: when the mask is empty.
    """
    if not brain.any():
        raise UserError("the brain mask is empty; expected a T1 with a brain. Check the scan.")
    intensities, mask = image.as_tensor()[0].numpy(), brain[0].numpy().astype(bool)
    dark, bright = otsu(intensities[mask])
    levels = np.digitize(intensities, (dark, bright))
    tissues = np.array([Tissue.CSF, Tissue.CORTEX, Tissue.WHITE], dtype=np.uint8)[levels]
    tissues[is_ventricle(mask & (levels == 0), mask, spacing_mm(image))] = Tissue.VENTRICLE
    tissues[~mask] = Tissue.AIR
    return MetaTensor(torch.from_numpy(tissues)[None], affine=image.affine)


def otsu(values: Floats) -> tuple[float, float]:
    """Return the two thresholds that part values into three classes of least variance."""
    row = itk.image_from_array(np.ascontiguousarray(values[None], dtype=np.float32))  # ITK filters images only
    thresholds = itk.OtsuMultipleThresholdsImageFilter.New(row, NumberOfThresholds=2)
    thresholds.Update()
    lower, upper = thresholds.GetThresholds()
    return lower, upper


def is_ventricle(fluid: Mask, brain: Mask, spacing_mm: Floats) -> Mask:
    """Return the pieces of the fluid that lie deep in the brain."""
    depth_mm = distance_transform_edt(brain, spacing_mm)
    pieces, count = label(fluid & (depth_mm > SULCAL_DEPTH_MM))
    numbers = np.arange(1, count + 1)
    deep = numbers[np.asarray(median(depth_mm, pieces, numbers)) > VENTRICLE_DEPTH_MM]
    return np.isin(pieces, deep)
