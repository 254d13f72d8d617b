"""Neck and shoulders below the end of a label map: skin, soft tissue, spine with cord, airway and vessels."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_closing, binary_fill_holes

from strokelesion.transforms.geometry import distances_mm
from strokelesion.transforms.shifted.substances import Substance, lowest_of_stem
from strokelesion.transforms.synthesis.tissues import Tissue

# The label map ends at the lowest slice that has this share of the tissue of the fullest slice.
LEAST_SHARE = 0.25
# The outline of the last slice becomes an ellipse over this length. Shoulders begin below the foramen magnum, and widen.
MORPH_MM, SHOULDERS_MM, WIDENING_MM = 45.0, 100.0, 70.0
SKIN_MM, VERTEBRA_MM, DISC_MM = 2.0, 17.0, 4.0
CLOSING = 8
# Room that shoulders need beside the head.
SIDE_MM = (35, 25)


class Neck(NamedTuple):
    """Size of a neck in mm and the path of its spinal canal.

    Attributes:
        half_axes: Half width and half depth.
        center: Center of the canal `(x, y)` at the last slice of the label map, in voxels.
        slope: Shift of the canal backwards per mm of depth.
        above: Length of neck that the label map has, from the foramen magnum down.
    """

    half_axes: tuple[float, float]
    center: tuple[float, float]
    slope: float
    above: float


def add_neck(codes: torch.Tensor, length: int, random: np.random.RandomState) -> tuple[torch.Tensor, torch.Tensor]:
    """Return codes `(X, Y, Z)` with a neck below, and the voxel `(3,)` of the old grid that is the first of the new one.

    Voxels count as cubes of 1 mm.

    Args:
        codes: Map of `Tissue` in RAS.
        length: Number of slices to add below the last slice of the label map.
        random: Random state.
    """
    areas = (codes > 0).sum((0, 1))
    end = int((areas > LEAST_SHARE * areas.max()).nonzero()[0, 0])
    wide = F.pad(codes[..., end:], (0, 0, SIDE_MM[1], SIDE_MM[1], SIDE_MM[0], SIDE_MM[0]))
    last = fill_outline(wide[..., 0] > 0)
    surface = (distances_mm(last[..., None], [1.0] * 3) - distances_mm(~last[..., None], [1.0] * 3))[..., 0].float()
    neck = draw_neck(wide, random)
    slices = [slice_at(surface, neck, depth + 1.0) for depth in range(length)]
    added = torch.stack([*reversed(slices), *wide.unbind(-1)], dim=-1)
    return added, torch.tensor([-SIDE_MM[0], -SIDE_MM[1], end - length])


def fill_outline(mask: torch.Tensor) -> torch.Tensor:
    """Return a mask `(X, Y)`, closed and without holes: mouth and nose are air, and T1s do not show bone."""
    return torch.from_numpy(binary_fill_holes(binary_closing(mask.numpy(), iterations=CLOSING)))


def draw_neck(codes: torch.Tensor, random: np.random.RandomState) -> Neck:
    """Return a random neck that continues a label map, which ends at its slice 0."""
    lowest = lowest_of_stem(codes)
    cord = (codes[..., :3] == Substance.CORD).nonzero().double()
    tissue = (codes[..., 0] > 0).nonzero().double().mean(0)
    center = cord.mean(0)[:2] if len(cord) else tissue if lowest is None else lowest.double()[:2]
    half_axes = random.uniform(52, 66), random.uniform(55, 68)
    above = 0.0 if lowest is None else float(lowest[2])
    return Neck(half_axes, (float(center[0]), float(center[1])), random.uniform(0, 0.2), above)


def smooth_step(value: float) -> float:
    """Return a value from 0 to 1 that rises smoothly over the range 0 to 1 of the argument."""
    clipped = min(max(value, 0.0), 1.0)
    return clipped**2 * (3 - 2 * clipped)


def slice_at(surface: torch.Tensor, neck: Neck, depth: float) -> torch.Tensor:
    """Return the codes `(X, Y)` of a slice at a depth in mm below the label map.

    Args:
        surface: Signed distance to the outline of the last slice of the label map, negative inside.
        neck: Sizes.
        depth: Depth in mm.
    """
    x = torch.arange(surface.shape[0])[:, None] - neck.center[0]
    y = torch.arange(surface.shape[1])[None, :] - neck.center[1] + neck.slope * depth
    shoulders = smooth_step((depth + neck.above - SHOULDERS_MM) / WIDENING_MM)
    width, length = neck.half_axes[0] + 110 * shoulders, neck.half_axes[1] + 25 * shoulders
    ellipse = (radius(x, y - 12, width, length) - 1) * min(width, length)
    mixed = smooth_step(depth / MORPH_MM)
    distance = (1 - mixed) * surface + mixed * ellipse
    codes = torch.zeros(surface.shape, dtype=torch.uint8)
    codes[distance < 0] = int(Tissue.SKIN)
    codes[distance < -SKIN_MM] = int(Tissue.SOFT)
    for region, code in organs(x, y, depth):
        codes[region & (distance < -3 * SKIN_MM)] = int(code)
    return codes


def radius(x: torch.Tensor, y: torch.Tensor, width: float, length: float) -> torch.Tensor:
    """Return the radius of an ellipse with two half axes: 1 on its outline."""
    return torch.hypot(x / width, y / length)


def organs(x: torch.Tensor, y: torch.Tensor, depth: float) -> list[tuple[torch.Tensor, int]]:
    """Return regions `(X, Y)` with their codes, later ones over earlier ones; x and y start at the spinal canal, in mm."""
    canal, body, airway = radius(x, y, 9, 7.5), radius(x, y - 17, 13, 9), radius(x, y - 42, 8, 9)
    level = depth % VERTEBRA_MM
    is_disc, has_arch = level < DISC_MM, level > 1.5 * DISC_MM
    spine = (x.abs() < 3) & (y < -10) & (y > -32) & has_arch
    arch = (canal < 1.8) & (y < 4) & has_arch
    vessels = [(27, 22, 3.2), (33, 18, 5.0), (15, 10, 2.0)]
    tubes = [radius(x.abs() - side, y - front, size, size) < 1 for side, front, size in vessels]
    bodies = [(body < 1, Tissue.SOFT)] if is_disc else [(body < 1, Tissue.BONE), (body < 0.85, Tissue.MARROW)]
    return [
        *bodies,
        (arch | spine, Tissue.BONE),
        (((canal > 1.35) & (canal < 1.65) & (y < 4) & has_arch) | (spine & (x.abs() < 2)), Tissue.MARROW),
        (canal < 1.25, Substance.FAT),
        (canal < 1, Tissue.CSF),
        (radius(x, y, 6, 4.2) < 1, Substance.CORD),
        (airway < 1.35, Tissue.MUCOSA),
        (airway < 1, Tissue.AIR),
        *((tube, Tissue.VESSEL) for tube in tubes),
    ]
