"""Six kinds of chronic infarcts, painted on given masks: a map of tones (gray matter to CSF) and a border of any width."""

from typing import NamedTuple

import numpy as np
import torch

from strokelesion.transforms.geometry import bounding_box, distances_mm
from strokelesion.transforms.shifted.relaxation import Contrast
from strokelesion.transforms.shifted.scan_options import ScanOptions
from strokelesion.transforms.shifted.tissue_mixture import blend
from strokelesion.transforms.synthesis.fields import generator_of, smooth_noise
from strokelesion.transforms.synthesis.tissues import Tissue, is_brain

MARGIN = 10
# Thickness of rims, and of the wall of lacunes, in mm; tone of both.
RIM_MM, WALL_MM, RIM_TONE = (1.0, 3.5), 0.7, (0.05, 0.5)
# Above this volume, a lesion of lacunes has several, which occupy this share of it.
ONE_LACUNE_ML, LACUNES_SHARE = 3.0, (0.3, 0.7)
# Signal of bright cortex in laminar necrosis, relative to white matter, and share of the scans with bright cortex.
LAMINAR, LAMINAR_BRIGHT = (0.95, 1.25), 0.5
# Least tone of a fogged infarct, whose other parts are nearly as bright as before.
LEAST_FOGGED = 0.5
# Least share of cortex in laminar necrosis, and least weight of a fogged infarct.
LEAST_CORTEX, LEAST_WEIGHT = 0.2, 0.15


class Region(NamedTuple):
    """One lesion in its box; volumes are `(x, y, z)`.

    Attributes:
        depth_mm: Signed distance to the outline, positive inside.
        mask: Voxels of the lesion.
        codes: Tissues.
    """

    depth_mm: torch.Tensor
    mask: torch.Tensor
    codes: torch.Tensor


def paint_infarcts(
    signal: torch.Tensor,
    codes: torch.Tensor,
    lesions: torch.Tensor,
    contrast: Contrast,
    options: ScanOptions,
    spacing_mm: float,
    random: np.random.RandomState,
) -> torch.Tensor:
    """Return the signal `(X, Y, Z)` with infarcts, all of the scan's kind, at the masks of a map of lesion numbers.

    Fluid inside the masks stays as it is. Only the soft border changes voxels outside.
    """
    signal = signal.clone()
    for number in range(1, int(lesions.max()) + 1):
        mask = lesions == number
        if mask.any():
            box = bounding_box(mask, MARGIN)
            inner, outer = (distances_mm(region, [spacing_mm] * 3).float() for region in (~mask[box], mask[box]))
            region = Region(inner - outer, mask[box], codes[box])
            signal[box] = painted(signal[box], region, contrast, options, spacing_mm, random)
    return signal


def painted(
    signal: torch.Tensor,
    region: Region,
    contrast: Contrast,
    options: ScanOptions,
    spacing_mm: float,
    random: np.random.RandomState,
) -> torch.Tensor:
    """Return the signal of a box with one infarct."""
    tissue = is_brain(region.codes) & (region.codes != Tissue.VENTRICLE)
    weight = torch.sigmoid(region.depth_mm / options.lesion_border_mm) * tissue
    if options.lesion_kind == "fogged":
        patches = smooth_noise(signal.shape, spacing_mm, 10.0, generator_of(random))[0]
        weight = weight * (LEAST_WEIGHT + (1 - LEAST_WEIGHT) * torch.sigmoid(4 * patches))
    tone = tones(region, options, spacing_mm, random).clamp(0, 1)
    tone = tone * (1 + 0.1 * smooth_noise(signal.shape, spacing_mm, 4.0, generator_of(random))[0].clamp(-2, 2))
    substance = contrast.of_tone(tone.clamp(0, 1))
    if options.lesion_kind == "laminar" and random.uniform() < LAMINAR_BRIGHT:
        substance = torch.where(region.codes == Tissue.CORTEX, float(random.uniform(*LAMINAR)), substance)
    return blend(signal, weight, substance)


def tones(region: Region, options: ScanOptions, spacing_mm: float, random: np.random.RandomState) -> torch.Tensor:
    """Return the tones of an infarct of a kind.

    | kind | tones |
    |---|---|
    | gliosis | uniform |
    | fogged | uniform, at least half way to CSF; the weight in `painted` varies down to .15 |
    | rim | CSF inside a rim of 1 to 3.5 mm, as bright as gray matter or a little darker |
    | lacune | CSF inside a thin wall; several such holes in a large lesion of the scan's tone |
    | laminar | dark or bright cortex, slight gliosis below it; uniform without cortex |
    | wedge | CSF at the surface of the brain, fading to the scan's tone at the deepest point |
    """
    uniform = torch.full(region.depth_mm.shape, options.lesion_tone)
    rim = float(random.uniform(*RIM_TONE))
    if options.lesion_kind == "rim":
        thickness_mm = min(float(random.uniform(*RIM_MM)), 0.6 * float(region.depth_mm.max()))
        return torch.where(region.depth_mm > thickness_mm, 1.0, rim)
    if options.lesion_kind == "lacune":
        return lacunes(region, uniform, rim, spacing_mm, random)
    cortex = region.codes == Tissue.CORTEX
    if options.lesion_kind == "laminar" and float(cortex[region.mask].float().mean()) > LEAST_CORTEX:
        return torch.where(cortex, max(options.lesion_tone, 0.5), 0.4 * rim)
    if options.lesion_kind == "wedge":
        outside = region.codes >= Tissue.CSF
        from_surface_mm = distances_mm(outside, [spacing_mm] * 3).float().clamp(max=200)
        deepest_mm = from_surface_mm[region.mask].max().clamp(min=1)
        return 1 - (1 - options.lesion_tone) * (from_surface_mm / deepest_mm)
    return uniform.clamp(min=LEAST_FOGGED) if options.lesion_kind == "fogged" else uniform


def lacunes(
    region: Region, uniform: torch.Tensor, rim: float, spacing_mm: float, random: np.random.RandomState
) -> torch.Tensor:
    """Return the tones of one lacune with a wall, or of several holes in a large lesion."""
    if float(region.mask.sum()) * spacing_mm**3 / 1000 <= ONE_LACUNE_ML:
        return torch.where(region.depth_mm > min(WALL_MM, 0.6 * float(region.depth_mm.max())), 1.0, rim)
    holes = smooth_noise(uniform.shape, spacing_mm, 9.0, generator_of(random))[0]
    limit = torch.quantile(holes[region.mask][:500_000], 1 - float(random.uniform(*LACUNES_SHARE)))
    return torch.where(holes > limit, 1.0, uniform)
