"""Exact Euclidean distances to a mask, by SciPy on processors and by torch on GPUs."""

from collections.abc import Sequence

import torch
from scipy import ndimage


def distances_mm(mask: torch.Tensor, spacing_mm: Sequence[float]) -> torch.Tensor:
    """Return the Euclidean distance from each voxel's center to that of the nearest mask voxel, 0 inside the mask.

    Args:
        mask: Booleans `(X, Y, Z)`, on any device.
        spacing_mm: Edges of a voxel.

    Returns:
        Distances `(X, Y, Z)` in double precision, on the same device; infinity if the mask is empty.
    """
    if not mask.any():
        return torch.full(mask.shape, torch.inf, dtype=torch.float64, device=mask.device)
    if mask.device.type == "cpu":
        return torch.as_tensor(ndimage.distance_transform_edt(~mask.numpy(), sampling=tuple(spacing_mm)))
    return lower_envelopes(mask, spacing_mm).double().sqrt()


def lower_envelopes(mask: torch.Tensor, spacing_mm: Sequence[float]) -> torch.Tensor:
    """Return the squared distances `(X, Y, Z)` to a mask, axis by axis: d'(i) = min over j of d(j) + (i - j)^2.

    Source: Felzenszwalb, Huttenlocher: Distance Transforms of Sampled Functions, Theory of Computing 2012, equation 1. The
    minimum is taken over all j at once, which suits a GPU.
    """
    squared = torch.full(mask.shape, torch.inf, device=mask.device).masked_fill(mask, 0)
    for axis, edge_mm in enumerate(spacing_mm):
        squared = squared.movedim(axis, 0)
        places_mm = edge_mm * torch.arange(len(squared), device=mask.device)
        nearest = torch.full_like(squared, torch.inf)
        for plane, place_mm in zip(squared, places_mm, strict=True):
            nearest = torch.minimum(nearest, plane + ((places_mm - place_mm) ** 2)[:, None, None])
        squared = nearest.movedim(0, axis)
    return squared
