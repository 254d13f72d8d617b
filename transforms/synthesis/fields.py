"""Random fields, filters and distances on volumes, with lengths in millimeters."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.networks.layers import GaussianFilter

from strokelesion.transforms.geometry import distances_mm

# Wider kernels are applied at half resolution: the result is equally smooth, at an eighth of the cost.
WIDEST_KERNEL_VOXELS = 1.5


def generator_of(random: np.random.RandomState) -> torch.Generator:
    """Return a torch generator seeded by a NumPy generator, which is the one that MONAI seeds."""
    return torch.Generator().manual_seed(int(random.randint(2**31)))


def plain(volume: torch.Tensor) -> torch.Tensor:
    """Return a volume as a plain tensor. The metadata of a MetaTensor slows down each operation."""
    return volume.as_tensor() if isinstance(volume, MetaTensor) else torch.as_tensor(volume)


def resized(volume: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return channels `(C, x, y, z)` resized to `(C, X, Y, Z)` by trilinear interpolation with aligned corners."""
    stretched: torch.Tensor = F.interpolate(volume[None], size=tuple(shape), mode="trilinear", align_corners=True)[0]
    return stretched


def grain(shape: Sequence[int], generator: torch.Generator, device: str | torch.device = "cpu") -> torch.Tensor:
    """Return independent normal values per voxel, drawn on the device. GPU and CPU draw different values."""
    if torch.device(device).type == "cpu":
        return torch.randn(tuple(shape), generator=generator)
    seed = int(torch.randint(2**31, (), generator=generator))
    return torch.randn(tuple(shape), generator=torch.Generator(device).manual_seed(seed), device=device)


def smooth_noise(
    shape: Sequence[int],
    spacing_mm: float,
    scale_mm: float,
    generator: torch.Generator,
    channels: int = 1,
    device: str | torch.device = "cpu",
) -> torch.Tensor:
    """Return random fields `(channels, X, Y, Z)` of mean 0 and variance about 1 that vary over `scale_mm`.

    Normal values on a grid with a spacing of `scale_mm` are resized to the volume. Trilinear interpolation reduces the variance
    to 2/3 on average in each dimension. The fields are scaled to compensate. They are the same on every device.
    """
    coarse = [max(2, round(size * spacing_mm / scale_mm) + 1) for size in shape]
    values = torch.randn(channels, *coarse, generator=generator).to(device)
    fields: torch.Tensor = resized(values, shape) * 1.5**1.5
    return fields


def blurred(volume: torch.Tensor, sigma_mm: float, spacing_mm: float) -> torch.Tensor:
    """Return a volume `(X, Y, Z)`, smoothed by a Gaussian."""
    sigma = sigma_mm / spacing_mm
    if sigma > WIDEST_KERNEL_VOXELS and min(volume.shape) > 4:
        half = F.avg_pool3d(volume[None, None].float(), 2, ceil_mode=True, count_include_pad=False)[0, 0]
        return F.interpolate(blurred(half, sigma_mm, 2 * spacing_mm)[None, None], scale_factor=2, mode="trilinear")[0, 0][
            tuple(slice(size) for size in volume.shape)
        ]
    smooth = GaussianFilter(3, sigma, truncated=3.0).to(volume.device)
    filtered: torch.Tensor = smooth(volume[None, None].float())[0, 0]
    return filtered


def distance_mm(mask: torch.Tensor, spacing_mm: float) -> torch.Tensor:
    """Return the distance of each voxel `(X, Y, Z)` to a mask, computed at half resolution, accurate to about one voxel."""
    half = F.max_pool3d(mask[None, None].float(), 2, ceil_mode=True)[0, 0] > 0
    if not half.any():
        return torch.full(mask.shape, torch.inf, device=mask.device)
    return resized(distances_mm(half, [2 * spacing_mm] * 3).float()[None], mask.shape)[0]


def closed(mask: torch.Tensor, radius_mm: float, spacing_mm: float, wider_mm: float = 0.0) -> torch.Tensor:
    """Return a mask `(X, Y, Z)`, closed by a ball of a radius and then dilated, accurate to about one voxel."""
    return distance_mm(distance_mm(mask, spacing_mm) > radius_mm, spacing_mm) > radius_mm - wider_mm


def quantile(values: torch.Tensor, share: float) -> torch.Tensor:
    """Return a quantile, computed from fewer than 200,000 evenly spaced values; torch accepts at most 16 million."""
    if not values.numel():
        return torch.tensor(torch.inf, device=values.device)
    chosen: torch.Tensor = torch.quantile(values[:: max(1, values.numel() // 100_000)].float(), share)
    return chosen
