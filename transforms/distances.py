"""How far each voxel is from a mask, exactly: SciPy's transform on processors, the same in torch on GPUs."""

from collections.abc import Sequence

import torch
from scipy import ndimage


def distances_mm(mask: torch.Tensor, spacing_mm: Sequence[float]) -> torch.Tensor:
    """Return the Euclidean distance of each voxel's center to the nearest one of a mask, 0 inside.

    Args:
        mask: booleans `(X, Y, Z)`, on any device; infinity is returned where nothing is set.
        spacing_mm: edges of a voxel.

    Returns:
        Distances `(X, Y, Z)` in double precision, on the same device.
    """
    if not mask.any():
        return torch.full(mask.shape, torch.inf, dtype=torch.float64, device=mask.device)
    if mask.device.type == "cpu":
        return torch.as_tensor(ndimage.distance_transform_edt(~mask.numpy(), sampling=tuple(spacing_mm)))
    return lower_envelopes(mask, spacing_mm).double().sqrt()


def lower_envelopes(mask: torch.Tensor, spacing_mm: Sequence[float]) -> torch.Tensor:
    """Return the squared distances `(X, Y, Z)` to a mask, one axis after the other: d'(i) = min over j of d(j) + (i - j)^2.

    Source: Felzenszwalb, Huttenlocher: Distance Transforms of Sampled Functions, Theory of Computing 2012, equation 1, with
    the minimum taken over all j at once, which suits a GPU.
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
