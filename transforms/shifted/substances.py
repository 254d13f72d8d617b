"""Codes of muscle, fat, spinal cord and dura, which the tissue classes of heads do not distinguish."""

from enum import IntEnum

import numpy as np
import torch

from strokelesion.transforms.components import components
from strokelesion.transforms.synthesis.fields import distance_mm, generator_of, quantile, smooth_noise
from strokelesion.transforms.synthesis.tissues import Tissue, any_of

# Range of the mean thickness of fat below the skin, and half-width of the fat between muscles, in SD of a random field.
FAT_MM, SEPTUM = (2.0, 7.0), 0.06
# Reach of the search for the spinal cord below the brain stem, in voxels: to each side, and down.
CORD_SIDE, CORD_DOWN = 8, 10


class Substance(IntEnum):
    """Substances outside the brain, numbered after the last `Tissue`."""

    MUSCLE = len(Tissue)
    FAT = len(Tissue) + 1
    CORD = len(Tissue) + 2
    DURA = len(Tissue) + 3


CODES = len(Tissue) + len(Substance)


def lowest_of_stem(codes: torch.Tensor) -> torch.Tensor | None:
    """Return the center `(3,)` of the lowest voxels of the brain stem, or None without a brain stem."""
    where = (codes == Tissue.STEM).nonzero()
    return where[where[:, 2] == where[:, 2].min()].double().mean(0).round().long() if len(where) else None


def mark_cord(codes: torch.Tensor) -> torch.Tensor:
    """Return codes `(X, Y, Z)` in which the vessel components just below the brain stem are spinal cord.

    The label maps number the cord among the tissues that become `VESSEL`.
    """
    lowest = lowest_of_stem(codes)
    if lowest is None:
        return codes
    x, y, z = lowest.tolist()
    sides = [slice(max(0, c - CORD_SIDE), c + CORD_SIDE + 1) for c in (x, y)]
    below = (*sides, slice(max(0, z - CORD_DOWN), z + 2))
    numbers = torch.as_tensor(components((codes == Tissue.VESSEL).numpy())[0]).long()
    found = numbers[below]
    cord = torch.isin(numbers, found[found > 0])
    return torch.where(cord, int(Substance.CORD), codes).to(codes.dtype)


def divide_soft_tissue(codes: torch.Tensor, spacing_mm: float, random: np.random.RandomState) -> torch.Tensor:
    """Return codes `(X, Y, Z)` in which soft tissue is fat below the skin and in septa, and muscle elsewhere."""
    soft = codes == Tissue.SOFT
    if not soft.any():
        return codes
    noise = smooth_noise(codes.shape, spacing_mm, 30.0, generator_of(random))[0]
    thickness_mm = random.uniform(*FAT_MM) * (1 + 0.4 * noise.clamp(-2, 2))
    sheets = smooth_noise(codes.shape, spacing_mm, 14.0, generator_of(random))[0].abs() < SEPTUM
    fat = (distance_mm(codes == Tissue.SKIN, spacing_mm) < thickness_mm) | sheets
    divided = torch.where(fat, int(Substance.FAT), int(Substance.MUSCLE)).to(codes.dtype)
    return torch.where(soft, divided, codes)


def divide_unknown(codes: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Return codes `(X, Y, Z)` in which unknown tissue is skin, muscle or fat by its brightness in a T1 of the same grid."""
    unknown = codes == Tissue.UNKNOWN
    low, high = (quantile(image[unknown], share) for share in (0.3, 0.65))
    kind = torch.where(image < low, int(Tissue.SKIN), torch.where(image < high, int(Substance.MUSCLE), int(Substance.FAT)))
    return torch.where(unknown, kind.to(codes.dtype), codes)


def mark_dura(codes: torch.Tensor) -> torch.Tensor:
    """Return codes `(X, Y, Z)` in which the fluid beside bone is dura."""
    bone = any_of(codes, (Tissue.BONE, Tissue.MARROW))[None, None].float()
    beside = torch.nn.functional.max_pool3d(bone, 3, stride=1, padding=1)[0, 0] > 0
    return torch.where(beside & (codes == Tissue.CSF), int(Substance.DURA), codes).to(codes.dtype)
