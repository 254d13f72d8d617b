"""Distances to a mask: those of a loop over all its voxels, by either way."""

import numpy as np
import pytest
import torch

from strokelesion.transforms.distances import distances_mm, lower_envelopes

SPACING_MM = (1.0, 2.0, 0.7)


def by_loop(mask: torch.Tensor) -> torch.Tensor:
    """Return the distance of each voxel to its nearest one of the mask, from all pairs."""
    voxels = torch.cartesian_prod(*(torch.arange(size) for size in mask.shape)).double() * torch.tensor(SPACING_MM)
    return torch.cdist(voxels, voxels[mask.flatten()]).amin(1).reshape(mask.shape)


@pytest.mark.parametrize("share", [0.003, 0.1, 0.9])
def test_both_ways_give_the_distances_of_a_loop(share: float) -> None:
    mask = torch.rand(13, 9, 17, generator=torch.Generator().manual_seed(5)) < share
    expected = by_loop(mask)
    assert torch.allclose(distances_mm(mask, SPACING_MM), expected)
    assert torch.allclose(lower_envelopes(mask, SPACING_MM).sqrt().double(), expected)


def test_nothing_is_near_an_empty_mask() -> None:
    empty = torch.zeros(3, 4, 5, dtype=torch.bool)
    for found in (distances_mm(empty, SPACING_MM), lower_envelopes(empty, SPACING_MM)):
        assert np.isinf(found.numpy()).all()
