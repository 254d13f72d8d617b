"""Connected components of masks: the only code that decides which voxels are one lesion, one brain or one hole."""

from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from strokelesion.transforms.geometry import bounding_box

Mask = NDArray[np.bool_]
# Six neighbors share a face with a voxel; 26 share a face, an edge or a corner.
NEIGHBORS = {6: ndimage.generate_binary_structure(3, 1), 26: ndimage.generate_binary_structure(3, 3)}
# Affines are stored in single precision, so volumes that differ by less than this share of a voxel count as equal.
VOXEL_TOLERANCE = 1e-3


def components(mask: torch.Tensor | Mask, neighbors: int = 26) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the connected components of a mask in the order of their first voxels; the last axis runs fastest.

    Args:
        mask: Mask `(X, Y, Z)`, on any device.
        neighbors: Connectivity, 6 or 26.

    Returns:
        Component number of each voxel `(X, Y, Z)`, from 1 (background 0), and the voxel count of each number, from 0.
    """
    mask = mask.numpy(force=True) if isinstance(mask, torch.Tensor) else mask
    numbers, box = np.zeros(mask.shape, np.int32), bounding_box(mask)  # labeling whole scans takes most of a second
    numbers[box], _ = ndimage.label(mask[box], NEIGHBORS[neighbors])
    sizes = np.bincount(numbers[box].ravel(), minlength=1)
    sizes[0] += numbers.size - numbers[box].size
    return numbers, sizes


def without_small(mask: torch.Tensor | Mask, least: float, neighbors: int = 26) -> Mask:
    """Return a mask `(X, Y, Z)` without its components of fewer than `least` voxels."""
    numbers, sizes = components(mask, neighbors)
    stays = sizes >= least
    stays[0] = False
    return np.asarray(stays[numbers])


def largest_component(mask: torch.Tensor | Mask, neighbors: int = 26) -> Mask:
    """Return the largest component of a mask `(X, Y, Z)`; an empty mask stays empty."""
    numbers, sizes = components(mask, neighbors)
    sizes[0] = 0
    return np.asarray((numbers == sizes.argmax()) & (numbers > 0))


def peaks(values: NDArray[np.floating[Any]], numbers: NDArray[np.int32], count: int) -> NDArray[np.floating[Any]]:
    """Return the maximum (at least 0) in each of `count` numbered components `(X, Y, Z)`; that of the background is 0."""
    found, inside = np.zeros(count, values.dtype), numbers > 0
    np.maximum.at(found, numbers[inside], values[inside])
    return found


def least_voxels(volume_ml: float, voxel_ml: float) -> int:
    """Return the least number of voxels that makes up a volume."""
    return ceil(volume_ml / voxel_ml - VOXEL_TOLERANCE)
