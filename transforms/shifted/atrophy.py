"""Atrophy of whole brains: a displacement that widens the ventricles, and cortex beside fluid that becomes fluid."""

import numpy as np
import torch
import torch.nn.functional as F

from strokelesion.transforms.geometry import bounding_box
from strokelesion.transforms.synthesis.fields import distance_mm, generator_of, smooth_noise
from strokelesion.transforms.synthesis.tissues import Tissue, any_of, is_brain

# Largest widening of the ventricles to each side, and depth over which the displacement fades out.
WIDEST_MM, FADES_MM = 6.0, 14.0


def shrink_brain(codes: torch.Tensor, strength: float, spacing_mm: float, random: np.random.RandomState) -> torch.Tensor:
    """Return codes `(X, Y, Z)` of a brain with wider ventricles and sulci; strength 0 changes nothing, 1 is severe."""
    if strength == 0:
        return codes
    box = bounding_box(is_brain(codes), margin=4)
    changed = codes.clone()
    changed[box] = open_sulci(widen_ventricles(codes[box], strength * WIDEST_MM, spacing_mm), strength, spacing_mm, random)
    return changed


def widen_ventricles(codes: torch.Tensor, widening_mm: float, spacing_mm: float) -> torch.Tensor:
    """Return codes in which all tissue moves away from the ventricles, by widening * exp(-distance / 14 mm)."""
    if not (codes == Tissue.VENTRICLE).any():
        return codes
    depth_mm = distance_mm(codes == Tissue.VENTRICLE, spacing_mm).float()
    outward = torch.stack(torch.gradient(depth_mm))
    shift = outward / outward.norm(dim=0).clamp(min=0.1) * (widening_mm / spacing_mm * torch.exp(-depth_mm / FADES_MM))
    axes = torch.meshgrid(*(torch.arange(size).float() for size in codes.shape), indexing="ij")
    sizes = torch.tensor(codes.shape).float()[:, None, None, None]
    source = 2 * (torch.stack(axes) - shift) / (sizes - 1) - 1
    grid = source.flip(0).permute(1, 2, 3, 0)[None]
    moved = F.grid_sample(codes[None, None].float(), grid, mode="nearest", align_corners=True, padding_mode="border")
    return moved[0, 0].to(codes.dtype)


def open_sulci(codes: torch.Tensor, strength: float, spacing_mm: float, random: np.random.RandomState) -> torch.Tensor:
    """Return codes in which cortex beside fluid is fluid, in regions that grow with the strength; twice at the strongest."""
    regions = smooth_noise(codes.shape, spacing_mm, 25.0, generator_of(random))[0]
    for threshold in (1.0, 2.0):
        fluid = (codes == Tissue.CSF)[None, None].float()
        beside = F.avg_pool3d(fluid, 3, stride=1, padding=1)[0, 0] > 0.25
        opened = beside & any_of(codes, (Tissue.CORTEX, Tissue.CEREBELLAR_CORTEX)) & (regions + 2 * strength > threshold)
        codes = torch.where(opened, int(Tissue.CSF), codes).to(codes.dtype)
    return codes
