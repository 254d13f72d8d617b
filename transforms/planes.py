"""The planes that volumes are cut into slices in: axial, coronal, sagittal."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Orientationd

AXIAL = "axial"
# Axes of a volume in RAS: the two of a slice, then the one that slices are stacked along.
PLANES = {AXIAL: (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
Function = Callable[[torch.Tensor], torch.Tensor]


class TurnToPlaned(MapTransform):
    """Turn volumes so that slices along their last axis lie in the plane that the sample names, if it names one.

    Args:
        keys: volumes `(C, X, Y, Z)` in RAS, with their affine; those that are not there are passed over.
        plane_key: where the sample says which of `PLANES`; without it, nothing is turned: slices are axial.
    """

    def __init__(self, keys: KeysCollection, plane_key: str = "plane") -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.plane_key = plane_key
        self.turns = {
            plane: Orientationd(keys, axcodes="".join("RAS"[axis] for axis in axes), labels=None, allow_missing_keys=True)
            for plane, axes in PLANES.items()
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its volumes turned."""
        turned: dict[Hashable, Any] = self.turns[data.get(self.plane_key, AXIAL)](data)
        return turned


def mean_over_planes(volume: torch.Tensor, function: Function, planes: Sequence[str]) -> torch.Tensor:
    """Return the mean of what a function makes of volumes in several planes; see `in_plane`."""
    first, *others = planes
    total = in_plane(volume, function, first)
    for plane in others:
        total = total + in_plane(volume, function, plane)
    return total / len(planes) if others else total


def in_plane(volume: torch.Tensor, function: Function, plane: str) -> torch.Tensor:
    """Return what a function of volumes `(B, C, X, Y, Z)` in RAS makes of them when their slices lie in a plane.

    Args:
        volume: `(B, C, X, Y, Z)`.
        function: takes and returns volumes; sees them with the slices of the plane along the last axis.
        plane: one of `PLANES`.
    """
    last = (-3, -2, -1)
    there = [last[axis] for axis in PLANES[plane]]
    return function(volume.movedim(there, last)).movedim(last, there)
