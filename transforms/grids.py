"""A volume on the grid of another: same size, same affine, whatever either was."""

import itertools

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from nibabel.affines import apply_affine


def resampled(volume: MetaTensor, target: MetaTensor, mode: str = "bilinear", padding_mode: str = "zeros") -> MetaTensor:
    """Return a volume on the grid and the device of another, as floats, with nothing of its history.

    Args:
        volume: `(C, x, y, z)` with its affine, of any type.
        target: `(C, X, Y, Z)` with its affine.
        mode: `bilinear` (trilinear), or `nearest` for labels.
        padding_mode: beyond the edge of the volume `zeros`, or `border`, its nearest voxel.
    """
    resample = SpatialResample(mode=mode, padding_mode=padding_mode, dtype=np.float32)
    alone = MetaTensor(volume.as_tensor().to(target.device).float(), affine=volume.affine)
    # Where zeros come out need not be computed: of a whole head, a brain is a quarter.
    box = reach(volume, target) if padding_mode == "zeros" else tuple(slice(0, size) for size in target.shape[1:])
    affine = target.affine.clone()
    affine[:3, 3] += affine[:3, :3] @ torch.tensor([part.start for part in box], dtype=affine.dtype)
    there = alone.new_zeros((len(alone), *target.shape[1:])).as_subclass(torch.Tensor)
    if all(part.start < part.stop for part in box):
        size = [part.stop - part.start for part in box]
        there[:, *box] = resample(alone, dst_affine=affine, spatial_size=size).as_subclass(torch.Tensor)
    return MetaTensor(there, affine=target.affine)


def reach(volume: MetaTensor, target: MetaTensor) -> tuple[slice, ...]:
    """Return the box of a target's voxels outside of which a volume, with zeros around it, is 0."""
    corners = np.array(list(itertools.product(*((-1, size) for size in volume.shape[1:]))))
    there = apply_affine(np.linalg.inv(target.affine.numpy()) @ volume.affine.numpy(), corners)
    low, high = np.floor(there.min(axis=0)), np.ceil(there.max(axis=0)) + 1
    return tuple(
        slice(int(min(max(start, 0), size)), int(min(max(stop, 0), size)))
        for start, stop, size in zip(low, high, target.shape[1:], strict=True)
    )
