"""Prediction from slices in several planes, for a network that was trained on slices in these planes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer

AXIAL = "axial"
# Axes of a volume in RAS: two axes of the slice, then the axis along which the slices are stacked.
PLANES = {AXIAL: (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
# Probabilities are raised to this value before the logarithm.
LEAST = 1e-30
Function = Callable[[torch.Tensor], torch.Tensor]


class PlanesInferer(Inferer):
    """Average the probabilities that a network predicts from a volume's slices in several planes.

    The time is proportional to the number of planes. Guha Roy et al. (QuickNAT, NeuroImage 2019) train one network for each
    plane; here one network serves all planes.

    Args:
        inferer: Inferer that passes volumes, sliced along their last axis, through the network.
        planes: Planes that the network was trained on, a subset of `PLANES`.
    """

    def __init__(self, inferer: Inferer, planes: Sequence[str]) -> None:
        super().__init__()
        self.inferer = inferer
        self.planes = tuple(planes)

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return logits `(B, K, X, Y, Z)` of volumes `(B, 1, X, Y, Z)` in RAS; for several planes, log probabilities."""

        def logits(volume: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inferer(volume, network, *args, **kwargs)
            return found

        def probabilities(volume: torch.Tensor) -> torch.Tensor:
            return logits(volume).float().softmax(dim=1)

        if len(self.planes) == 1:
            return mean_over_planes(inputs, logits, self.planes)
        return mean_over_planes(inputs, probabilities, self.planes).clamp(min=LEAST).log()


def mean_over_planes(volume: torch.Tensor, function: Function, planes: Sequence[str]) -> torch.Tensor:
    """Return the mean over several planes of a function of volumes, see `in_plane`."""
    first, *others = planes
    total = in_plane(volume, function, first)
    for plane in others:
        total = total + in_plane(volume, function, plane)
    return total / len(planes) if others else total


def in_plane(volume: torch.Tensor, function: Function, plane: str) -> torch.Tensor:
    """Apply a function to volumes whose slices lie in a plane, and return its result in the volumes' own axes.

    Args:
        volume: Volumes `(B, C, X, Y, Z)` in RAS.
        function: Function that takes and returns volumes; the slices of the plane lie along their last axis.
        plane: One of `PLANES`.
    """
    last = (-3, -2, -1)
    there = [last[axis] for axis in PLANES[plane]]
    return function(volume.movedim(there, last)).movedim(last, there)
