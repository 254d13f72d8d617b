"""Approximate tissue maps of heads without complete labels, from a T1 and a brain mask, or from labels of the brain alone.

The accuracy is sufficient for synthetic scans. They need plausible shapes of gray and white matter, fluid in the right regions
and bright tissue around the skull. They do not need the true segmentation of this person.
"""

import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, median

from strokelesion.networks import UserError
from strokelesion.transforms import ScaleTissued, is_tissue
from strokelesion.transforms.components import components, least_voxels, without_small
from strokelesion.transforms.geometry import surplus_mm, voxel_ml
from strokelesion.transforms.synthesis.tissues import Tissue, is_inside_skull

# Gaps in the brain up to twice this width are filled with CSF.
CLOSING_MM = 3.0
# Only fluid deeper than the first value is divided into components: at lower depth, sulci and ventricles are connected. A
# component with a median depth above the second value is ventricle. Dice of the ventricles on two labeled heads: .84 and .81.
SULCAL_DEPTH_MM = 8.0
VENTRICLE_DEPTH_MM = 15.0
# Smaller bright components are noise. The scalp can be a separate component, if the skull around the brain is dark.
LEAST_COMPONENT_ML = 1.0

Mask = NDArray[np.bool_]
Floats = NDArray[np.floating]


def has_surroundings(tissues: torch.Tensor) -> bool:
    """Return whether a tissue map contains tissues outside the brain."""
    return bool(((tissues > Tissue.CSF) & (tissues < Tissue.UNKNOWN)).any())


def add_surroundings(tissues: MetaTensor, image: MetaTensor | None = None) -> MetaTensor:
    """Return a tissue map of the brain with CSF and, if there is a T1, the tissue around it.

    1. Close the labeled region by 3 mm. The added voxels are CSF.
    2. Outside, voxels of the T1 that are brighter than air are `UNKNOWN`.

    Args:
        tissues: Map of `Tissue` `(1, X, Y, Z)`, brain only.
        image: T1 on the same grid; None for a map without tissue outside the skull.
    """
    labeled = is_inside_skull(tissues.as_tensor())
    inside = labeled | (surplus_mm(labeled[0], spacing_mm(tissues).tolist(), 0, CLOSING_MM) <= 0)
    whole = tissues.as_tensor().clone()
    whole[inside & ~labeled] = int(Tissue.CSF)
    if image is not None:
        whole[is_head(image, inside) & ~inside] = int(Tissue.UNKNOWN)
    return MetaTensor(whole, affine=tissues.affine)


def spacing_mm(volume: MetaTensor) -> Floats:
    """Return the voxel size along each axis, in mm."""
    sizes: Floats = voxel_sizes(volume.affine.numpy())
    return sizes


def is_head(image: MetaTensor, brain: torch.Tensor) -> torch.Tensor:
    """Return the mask `(1, X, Y, Z)` of brain and of voxels brighter than air, without small components (noise)."""
    bright = is_tissue(ScaleTissued("image")({"image": image.as_tensor()})["image"])
    least = least_voxels(LEAST_COMPONENT_ML, voxel_ml(image.affine))
    return torch.from_numpy(without_small((bright | brain)[0], least, neighbors=6))[None]


def classify(image: MetaTensor, brain: torch.Tensor) -> MetaTensor:
    """Return a tissue map of a T1 within a brain mask.

    1. Two Otsu thresholds divide the brain into dark, middle and bright voxels: fluid, gray matter and white matter.
    2. Fluid deeper than 8 mm is divided into 6-connected components. Those with a median depth above 15 mm are ventricle.

    Args:
        image: T1 `(1, X, Y, Z)` with white matter brighter than gray matter.
        brain: Mask `(1, X, Y, Z)`, including ventricles and sulci.

    Returns:
        Map of `VENTRICLE`, `CSF`, `CORTEX` and `WHITE`; `AIR` outside the mask.

    Raises:
        UserError: The mask is empty.
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
    """Return two Otsu thresholds, which minimize the variance within the three classes."""
    import itk  # takes seconds, and most scans need none of it

    row = itk.image_from_array(np.ascontiguousarray(values[None], dtype=np.float32))  # ITK filters images only
    thresholds = itk.OtsuMultipleThresholdsImageFilter.New(row, NumberOfThresholds=2)
    thresholds.Update()
    lower, upper = thresholds.GetThresholds()
    return lower, upper


def is_ventricle(fluid: Mask, brain: Mask, spacing_mm: Floats) -> Mask:
    """Return the mask of fluid components that lie deep in the brain."""
    depth_mm = distance_transform_edt(brain, spacing_mm)
    pieces, sizes = components(fluid & (depth_mm > SULCAL_DEPTH_MM), neighbors=6)
    numbers = np.arange(1, len(sizes))
    deep = numbers[np.asarray(median(depth_mm, pieces, numbers)) > VENTRICLE_DEPTH_MM]
    return np.isin(pieces, deep)
