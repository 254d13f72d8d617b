"""A volume on the grid of another: same size, same affine, whatever either was."""

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample


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
    there = resample(alone, dst_affine=target.affine, spatial_size=target.shape[1:])
    return MetaTensor(there.as_subclass(torch.Tensor), affine=target.affine)
