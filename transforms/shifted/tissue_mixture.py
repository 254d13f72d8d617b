"""Signal of tissue maps: each tissue is a mixture of three components with different T1, plus old disease of white matter."""

import numpy as np
import torch

from strokelesion.transforms.shifted.relaxation import Contrast
from strokelesion.transforms.shifted.scan_options import ScanOptions
from strokelesion.transforms.shifted.substances import CODES, Substance
from strokelesion.transforms.synthesis.fields import distance_mm, generator_of, grain, smooth_noise
from strokelesion.transforms.synthesis.tissues import Tissue, any_of

# The components are contiguous over this scale. Their T1 differs by this share, in brain and in tissues of several materials.
COMPONENT_MM, BRAIN_SPREAD, OTHER_SPREAD = 3.0, 0.04, 0.15
MIXED = (Tissue.SOFT, Tissue.SKIN, Tissue.MARROW, Tissue.MUCOSA, Substance.MUSCLE, Substance.FAT)
# Boundaries that divide a normal distribution into thirds.
THIRDS = (-0.43, 0.43)
# Standard deviation of single voxels, relative to their signal.
GRAIN = 0.01
# Largest extent of white-matter disease from the ventricles, and softness of its border.
DISEASE_MM, DISEASE_SOFT_MM = 14.0, 1.0
SPACE_MM = (4.0, 15.0)


def paint_mixture(codes: torch.Tensor, contrast: Contrast, spacing_mm: float, random: np.random.RandomState) -> torch.Tensor:
    """Return the signal `(X, Y, Z)` of codes: a Gaussian mixture of three components in each tissue."""
    spread = torch.full((CODES,), BRAIN_SPREAD)
    spread[[int(code) for code in MIXED]] = OTHER_SPREAD
    table = torch.stack([contrast.signals(1 + sign * spread) for sign in (-1, 0, 1)])
    field = smooth_noise(codes.shape, spacing_mm, COMPONENT_MM, generator_of(random))[0]
    component = torch.bucketize(field, torch.tensor(THIRDS))
    signal = table.flatten()[component * CODES + codes.long()]
    return signal * (1 + GRAIN * grain(codes.shape, generator_of(random)))


def blend(signal: torch.Tensor, weight: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean of two signals, with `weight` for the other one."""
    return signal + weight * (other - signal)


def paint_old_disease(
    signal: torch.Tensor,
    codes: torch.Tensor,
    contrast: Contrast,
    options: ScanOptions,
    spacing_mm: float,
    random: np.random.RandomState,
) -> torch.Tensor:
    """Return the signal `(X, Y, Z)` with periventricular caps, confluent disease and enlarged perivascular spaces.

    Its tone is -0.3 to 0.2, from between gray and white matter to darker than gray matter. Nothing of it is a lesion.
    """
    depth_mm = distance_mm(codes == Tissue.VENTRICLE, spacing_mm).float()
    if options.white_matter_disease > 0 and depth_mm.isfinite().any():
        noise = smooth_noise(codes.shape, spacing_mm, 12.0, generator_of(random))[0]
        reach_mm = options.white_matter_disease * DISEASE_MM * (0.5 + 0.4 * noise)
        weight = torch.sigmoid((reach_mm - depth_mm) / DISEASE_SOFT_MM) * (codes == Tissue.WHITE)
        tone = torch.tensor(float(random.uniform(-0.3, 0.2)))
        signal = blend(signal, weight, contrast.of_tone(tone))
    if options.vascular_spaces:
        weight = vascular_spaces(codes, depth_mm, options.vascular_spaces, random)
        signal = blend(signal, weight, contrast.signals()[Tissue.VENTRICLE])
    return signal


def vascular_spaces(codes: torch.Tensor, depth_mm: torch.Tensor, count: int, random: np.random.RandomState) -> torch.Tensor:
    """Return the weight of fluid `(X, Y, Z)` in tubes that run towards the ventricles, up to 2 voxels wide."""
    home = any_of(codes, (Tissue.WHITE, Tissue.PUTAMEN))
    weight = torch.zeros(codes.shape)
    where = home.nonzero()
    if not len(where):
        return weight
    starts = where[torch.from_numpy(random.randint(len(where), size=count))].float()
    slopes = torch.stack([torch.nan_to_num(part) for part in torch.gradient(depth_mm)])
    i, j, k = starts.long().unbind(1)
    toward = -slopes[:, i, j, k].T + 0.3 * torch.from_numpy(random.normal(size=(count, 3))).float()
    lengths = torch.from_numpy(random.uniform(*SPACE_MM, count)).float()[:, None]
    ends = starts + lengths * toward / toward.norm(dim=1, keepdim=True).clamp(min=0.1)
    widths = torch.from_numpy(random.uniform(0, 0.7, (count, 1, 1))).float()
    steps = torch.linspace(0, 1, 31)[None, :, None]
    points = starts[:, None] + steps * (ends - starts)[:, None]
    # A tube wider than a voxel is drawn twice, shifted by its width.
    for shift in (0.0, 1.0):
        voxels = (points + shift * widths).round().long().flatten(0, 1)
        voxels = voxels.clamp(min=torch.zeros(3, dtype=torch.long), max=torch.tensor(codes.shape) - 1)
        weight[voxels[:, 0], voxels[:, 1], voxels[:, 2]] = float(random.uniform(0.3, 1))
    return weight * home
