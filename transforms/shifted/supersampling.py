"""Partial volume: a voxel of a scan is the mean of eight samples of the anatomy, two along each axis."""

from itertools import product

import torch

from strokelesion.transforms.geometry import sample_at


def supersample(volumes: torch.Tensor, affine: torch.Tensor, points_mm: torch.Tensor) -> torch.Tensor:
    """Return the mean of volumes `(C, x, y, z)` in each voxel `(C, X, Y, Z)` of a scan.

    Eight points at a quarter of a voxel from its center take the nearest voxel of the anatomy. At 1 mm, this computes partial
    volume at 0.5 mm.

    Args:
        volumes: Volumes of the anatomy, on a grid with the affine `affine` to millimeters.
        affine: Affine `(4, 4)`.
        points_mm: Position of each voxel's center in the anatomy `(X, Y, Z, 3)`.
    """
    edges = [(points_mm.narrow(axis, -1 % size, 1) - points_mm.narrow(axis, 0, 1)).mean((0, 1, 2)) / max(size - 1, 1)
             for axis, size in enumerate(points_mm.shape[:3])]  # fmt: skip
    total = torch.zeros(len(volumes), *points_mm.shape[:3])
    for signs in product((-0.25, 0.25), repeat=3):
        shifted = points_mm + sum(sign * edge for sign, edge in zip(signs, edges, strict=True))
        total += sample_at(volumes, affine, shifted, "nearest")
    return total / 8
