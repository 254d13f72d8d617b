"""Partial volume: a voxel of a scan is the mean of eight samples of the anatomy, two along each axis."""

from itertools import product

import torch
import torch.nn.functional as F

# Position of the two samples along an axis, in voxels from the center.
QUARTERS = (-0.25, 0.25)


def supersample(
    signal: torch.Tensor, classes: torch.Tensor, affine: torch.Tensor, points_mm: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean signal `(X, Y, Z)` and the share of each class `(C, X, Y, Z)` in the voxels of a scan.

    Eight points at a quarter of a voxel from its center take the nearest voxel of the anatomy. At 1 mm, this computes partial
    volume at 0.5 mm.

    Args:
        signal: Signal of the anatomy `(x, y, z)`; 0 outside.
        classes: Class of each voxel of the anatomy, 1 to C as bytes; 0 for none.
        affine: Affine `(4, 4)` of the anatomy.
        points_mm: Position of each voxel's center in the anatomy `(X, Y, Z, 3)`.
    """
    inverse = torch.linalg.inv(affine.double()).float()
    # A border of one voxel takes all points outside.
    voxels = (points_mm @ inverse[:3, :3].T + inverse[:3, 3] + 1).movedim(-1, 0).contiguous()
    inside, kinds = (F.pad(volume, (1,) * 6).flatten() for volume in (signal, classes))
    sizes = [size + 2 for size in signal.shape]
    edges = torch.stack([voxel_edge(voxels, axis) for axis in range(3)])
    mean = torch.zeros(points_mm.shape[:3])
    counts = torch.zeros(int(classes.max()), *points_mm.shape[:3], dtype=torch.uint8)
    for signs in product(QUARTERS, repeat=3):
        shift = torch.tensor(signs) @ edges
        places = torch.zeros(points_mm.shape[:3], dtype=torch.int32)
        for along, offset, size in zip(voxels, shift, sizes, strict=True):
            places = places * size + (along + offset).round_().clamp_(0, size - 1).int()
        mean += inside[places]
        found = kinds[places]
        for number, count in enumerate(counts, start=1):
            count += found == number
    return mean / 8, counts.float() / 8


def voxel_edge(voxels: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the mean step `(3,)` from one voxel to the next along an axis of positions `(3, X, Y, Z)`."""
    last = voxels.shape[axis + 1] - 1
    difference = voxels.select(axis + 1, last) - voxels.select(axis + 1, 0)
    return difference.mean((1, 2)) / max(last, 1)
