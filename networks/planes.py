"""Planes in which a volume is sliced, and means of predictions over planes."""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # the names of the planes are known without torch
    import torch

AXIAL = "axial"
# Axes of a volume in RAS: two axes of the slice, then the axis along which the slices are stacked.
PLANES = {AXIAL: (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
Function: TypeAlias = Callable[["torch.Tensor"], "torch.Tensor"]


def mean_over_planes(volume: "torch.Tensor", function: Function, planes: Sequence[str]) -> "torch.Tensor":
    """Return the mean over several planes of a function of volumes, see `in_plane`."""
    return reduce(add, (in_plane(volume, function, plane) for plane in planes)) / len(planes)


def in_plane(volume: "torch.Tensor", function: Function, plane: str) -> "torch.Tensor":
    """Apply a function to volumes whose slices lie in a plane, and return its result in the volumes' own axes.

    Args:
        volume: Volumes `(B, C, X, Y, Z)` in RAS.
        function: Function that takes and returns volumes; the slices of the plane lie along their last axis.
        plane: One of `PLANES`.
    """
    last = (-3, -2, -1)
    there = [last[axis] for axis in PLANES[plane]]
    return function(volume.movedim(there, last)).movedim(last, there)
