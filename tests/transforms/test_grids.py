"""A volume on another's grid: what MONAI makes of the whole grid, computed only where the volume is."""

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample

from strokelesion.transforms.grids import reach, resampled

SIZE = (40, 44, 37)
FAR_AWAY = (200.0, 0.0, 0.0)


def grid(edges_mm: tuple[float, ...], origin_mm: tuple[float, ...], turn: float = 0.0) -> torch.Tensor:
    """Return an affine that scales, turns about z and shifts."""
    turned = torch.eye(4, dtype=torch.float64)
    turned[:2, :2] = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    affine = turned @ torch.diag(torch.tensor([*edges_mm, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor(origin_mm)
    return affine


@pytest.fixture
def volume() -> MetaTensor:
    values = torch.rand(2, 9, 11, 7, generator=torch.Generator().manual_seed(3)) + 0.1
    return MetaTensor(values, affine=grid((-2.0, 1.5, 2.0), (5, -3, 2), 0.3))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    "target",
    [
        grid((1.0, 1.0, 1.0), (-30.1, -20.2, -9.7)),
        grid((1.3, -0.9, 1.1), (-10, 20, -5), -0.5),
        grid((1.0, 1.0, 1.0), (-3.1, 0.2, 4.3)),
        grid((1.0, 1.0, 1.0), FAR_AWAY),
    ],
)
def test_the_same_comes_out_as_from_the_whole_grid(volume: MetaTensor, target: torch.Tensor, mode: str) -> None:
    there = MetaTensor(torch.zeros(1, *SIZE), affine=target)
    whole = SpatialResample(mode=mode, padding_mode="zeros", dtype=np.float32)(volume, dst_affine=target, spatial_size=SIZE)
    found = resampled(volume, there, mode)
    assert torch.equal(found.affine, target)
    assert found.shape == (2, *SIZE)
    torch.testing.assert_close(found.as_tensor(), whole.as_tensor(), rtol=0, atol=1e-4)


def test_no_more_than_the_volume_is_computed(volume: MetaTensor) -> None:
    near, far = (
        reach(volume, MetaTensor(torch.zeros(1, *SIZE), affine=grid((1.0, 1.0, 1.0), origin)))
        for origin in ((-20, -20, -5), FAR_AWAY)
    )
    assert np.prod([part.stop - part.start for part in near]) < 0.4 * np.prod(SIZE)
    assert any(part.start == part.stop for part in far)
