"""Resampling of a volume to the grid (size and affine) of another volume."""

import itertools

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from nibabel.affines import apply_affine


def resampled(volume: MetaTensor, target: MetaTensor, mode: str = "bilinear", padding_mode: str = "zeros") -> MetaTensor:
    """Return a volume resampled to the grid and the device of another, as floats, without its applied operations.

    Args:
        volume: Volume `(C, x, y, z)` with its affine, of any type.
        target: Volume `(C, X, Y, Z)` with its affine, which defines the grid.
        mode: Interpolation: `bilinear` (trilinear), or `nearest` for labels.
        padding_mode: Values beyond the edge of the volume: `zeros`, or `border` for the nearest voxel.
    """
    resample = SpatialResample(mode=mode, padding_mode=padding_mode, dtype=np.float32)
    alone = MetaTensor(volume.as_tensor().to(target.device).float(), affine=volume.affine)
    # Voxels that become 0 need not be computed. A brain fills about a quarter of a whole-head scan.
    box = reach(volume, target) if padding_mode == "zeros" else tuple(slice(0, size) for size in target.shape[1:])
    affine = target.affine.clone()
    affine[:3, 3] += affine[:3, :3] @ torch.tensor([part.start for part in box], dtype=affine.dtype)
    there = alone.new_zeros((len(alone), *target.shape[1:])).as_subclass(torch.Tensor)
    if all(part.start < part.stop for part in box):
        size = [part.stop - part.start for part in box]
        there[:, *box] = resample(alone, dst_affine=affine, spatial_size=size).as_subclass(torch.Tensor)
    return MetaTensor(there, affine=target.affine)


def reach(volume: MetaTensor, target: MetaTensor) -> tuple[slice, ...]:
    """Return the box of target voxels that the volume can reach; outside it the resampled volume is 0."""
    corners = np.array(list(itertools.product(*((-1, size) for size in volume.shape[1:]))))
    there = apply_affine(np.linalg.inv(target.affine.numpy()) @ volume.affine.numpy(), corners)
    low, high = np.floor(there.min(axis=0)), np.ceil(there.max(axis=0)) + 1
    return tuple(
        slice(int(min(max(start, 0), size)), int(min(max(stop, 0), size)))
        for start, stop, size in zip(low, high, target.shape[1:], strict=True)
    )
