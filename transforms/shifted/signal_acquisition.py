"""From anatomy to a scan: receive coils, motion ghosts, finite resolution, noise, thick slices, brain extraction and units."""

import numpy as np
import torch
import torch.nn.functional as F

from strokelesion.transforms.shifted.scan_options import ScanOptions
from strokelesion.transforms.synthesis.fields import closed, generator_of, grain, quantile, resized

# Receive loops: number, radius, distance from the center of the brain across, and height above it.
LOOPS, LOOP_MM, AROUND_MM, HEIGHT_MM = (6, 17), (50.0, 90.0), (115.0, 150.0), (-140.0, 90.0)
# Fields are computed on a grid of this spacing, because they are smooth.
COARSE_MM = 8.0
# Largest amplification of the noise by parallel imaging, and its extent around the center.
AMPLIFICATION, AMPLIFIED_MM = 2.0, 60.0
# Lines of k-space per period of the motion.
PERIOD = (6, 30)
# Factor from full width at half maximum to standard deviation, and largest gap between slices.
FWHM_TO_SD, GAP = 0.4247, 0.2
UNITS = (50.0, 4000.0)


def scan_signal(
    signal: torch.Tensor, brain: torch.Tensor, spacing_mm: float, options: ScanOptions, random: np.random.RandomState
) -> torch.Tensor:
    """Return the image `(X, Y, Z)` of a signal, in whole numbers, as a scanner with these properties shows it."""
    center_mm = spacing_mm * (brain.nonzero().float().mean(0) if brain.any() else torch.tensor(brain.shape) / 2)
    image: torch.Tensor = signal * receive_field(signal.shape, center_mm, spacing_mm, brain, random) ** options.coil
    axis = int(random.randint(3))
    if options.motion_mm > 0:
        image = move_periodically(image, axis, options.motion_mm / spacing_mm, random)
    resolution = spacing_mm / options.resolution_mm, options.window
    noise = amplification(image.shape, center_mm, spacing_mm, random) * options.noise
    real, imaginary = (truncate(grain(image.shape, generator_of(random)), *resolution) for _ in range(2))
    image = torch.hypot(truncate(image, *resolution) + noise * real, noise * imaginary)
    if options.slice_mm > 0:
        image = thicken(image, int(random.randint(3)), options.slice_mm / spacing_mm, 1 + float(random.uniform(0, GAP)))
    if options.view == "stripped":
        image = image * closed(brain, random.uniform(3, 9), spacing_mm, wider_mm=random.uniform(-1, 3))
    unit = UNITS[0] * (UNITS[1] / UNITS[0]) ** float(random.uniform())
    stored: torch.Tensor = (image * unit).round().clamp(0, 32767)
    return stored


def coarse_points_mm(shape: torch.Size, spacing_mm: float) -> torch.Tensor:
    """Return positions `(x, y, z, 3)` of a coarse grid with the extent of a volume, in mm from its first voxel."""
    sizes = [max(2, round(size * spacing_mm / COARSE_MM)) for size in shape]
    axes = [torch.linspace(0, (size - 1) * spacing_mm, count) for size, count in zip(shape, sizes, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def receive_field(
    shape: torch.Size, center_mm: torch.Tensor, spacing_mm: float, brain: torch.Tensor, random: np.random.RandomState
) -> torch.Tensor:
    """Return the sensitivity `(X, Y, Z)` of receive loops around the head, with median 1 in the brain.

    A loop of radius a has the sensitivity (1 + d^2 / a^2)^(-3/2) at a distance d, as on its axis by the law of Biot and Savart.
    The root of the sum of squares combines the loops.
    """
    points_mm = coarse_points_mm(shape, spacing_mm)
    count = int(random.randint(*LOOPS))
    angles = 2 * np.pi * (np.arange(count) + random.uniform(0, 1, count)) / count
    across_mm = random.uniform(*AROUND_MM, count)
    places = np.stack([across_mm * np.cos(angles), across_mm * np.sin(angles), random.uniform(*HEIGHT_MM, count)], axis=-1)
    radius_mm = float(random.uniform(*LOOP_MM))
    squared = torch.zeros(points_mm.shape[:3])
    for place in torch.from_numpy(places).float():
        distance_mm = (points_mm - center_mm - place).norm(dim=-1)
        squared += (1 + (distance_mm / radius_mm) ** 2) ** -3
    field = resized(squared.sqrt()[None], shape)[0]
    return field / (quantile(field[brain], 0.5) if brain.any() else field.median())


def amplification(shape: torch.Size, center_mm: torch.Tensor, spacing_mm: float, random: np.random.RandomState) -> torch.Tensor:
    """Return the amplification of noise by parallel imaging `(X, Y, Z)`: 1 outside, up to 2 at the center of the head."""
    largest = float(random.uniform(1, AMPLIFICATION))
    squared = ((coarse_points_mm(shape, spacing_mm) - center_mm) ** 2).sum(-1)
    bump: torch.Tensor = resized(torch.exp(-squared / (2 * AMPLIFIED_MM**2))[None], shape)[0]
    return 1 + (largest - 1) * bump


def truncate(volume: torch.Tensor, kept: float, window: float = 0.0) -> torch.Tensor:
    """Return a volume `(X, Y, Z)` without its spatial frequencies above a share of the highest one, along each axis.

    This is what a scanner with larger voxels measures, zero-filled to the grid of the volume. Edges ring (Gibbs).

    Args:
        volume: Volume.
        kept: Share; 1 or more for all frequencies.
        window: Strength of a Hann filter over the kept frequencies, against ringing: 0 for none, 1 for the whole filter.
    """
    for axis, size in enumerate(volume.shape):
        relative = 2 * torch.fft.rfftfreq(size) / min(kept, 1)
        factor = torch.where(relative <= 1, 1 - window * torch.sin(np.pi / 2 * relative) ** 2, 0)
        volume = filter_along(volume, axis, factor)
    return volume


def filter_along(volume: torch.Tensor, axis: int, factor: torch.Tensor) -> torch.Tensor:
    """Return a volume whose spatial frequencies along an axis are multiplied by factors `(size / 2 + 1,)`."""
    shape = [len(factor) if dim == axis else 1 for dim in range(3)]
    spectrum = torch.fft.rfft(volume, dim=axis) * factor.reshape(shape)
    filtered: torch.Tensor = torch.fft.irfft(spectrum, n=volume.shape[axis], dim=axis)
    return filtered


def move_periodically(volume: torch.Tensor, axis: int, amplitude: float, random: np.random.RandomState) -> torch.Tensor:
    """Return the magnitude of a volume that moves along its phase-encoding axis while its lines are measured.

    Line k of k-space has the phase exp(-2 pi i k d(k)); the shift d(k) in voxels is periodic, so there are several ghosts.
    """
    size = volume.shape[axis]
    lines = torch.fft.fftfreq(size)
    period = float(random.uniform(*PERIOD))
    shift = amplitude * torch.sin(2 * np.pi * (lines * size / period + random.uniform()))
    phase = torch.polar(torch.ones(size), -2 * np.pi * lines * shift)
    shape = [size if dim == axis else 1 for dim in range(3)]
    moved: torch.Tensor = torch.fft.ifft(torch.fft.fft(volume, dim=axis) * phase.reshape(shape), dim=axis).abs()
    return moved


def thicken(volume: torch.Tensor, axis: int, thickness: float, distance: float) -> torch.Tensor:
    """Return a volume of thick slices, interpolated to its own grid.

    Slices have a Gaussian profile with a full width at half maximum of `thickness` voxels; `distance` is that between their
    centers, relative to the thickness.
    """
    size = volume.shape[axis]
    profile = torch.exp(-2 * (np.pi * FWHM_TO_SD * thickness * torch.fft.rfftfreq(size)) ** 2)
    smooth = filter_along(volume, axis, profile)
    count = max(2, round(size / (thickness * distance)))
    sizes = [count if dim == axis else whole for dim, whole in enumerate(volume.shape)]
    slices = F.interpolate(smooth[None, None], size=sizes, mode="trilinear", align_corners=False)
    return F.interpolate(slices, size=tuple(volume.shape), mode="trilinear", align_corners=False)[0, 0].clamp(min=0)
