"""Image arrays of the phantom: a synthetic T1-weighted head with chronic infarcts at given locations.

This module handles millimeters and intensities; `phantom.py` plans the infarcts of each subject and writes the files.

All steps use one scale of *template intensities*, in which brightness alone distinguishes the tissues
(air < bone < cerebrospinal fluid < muscle < gray matter < white matter < fat). This keeps the steps independent:

1. `_head`: MNI152 brain (part of nilearn) with layers of skull and scalp around it.
2. `_template_points`: for each voxel of the subject, the point of that head that it is sampled from.
3. `_paint`: lesions darken the warped head; their masks have exactly the requested volume.
4. `_acquire`: tissue contrast of the subject, bias field, blur, Rician noise, scale of the site.

Source of the anatomy: Fonov et al., NeuroImage 54 (2011), MNI ICBM152 nonlinear symmetric 2009a.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial.transform import Rotation
from torch.nn import functional as F

from strokelesion.networks import UserError

FIELD_MM = (196, 232, 188)
"""From the center of the first voxel to the center of the last, of every release of ATLAS in MNI space."""

ORIGIN_MM = (-98.0, -134.0, -72.0)
"""Center of the first voxel in MNI space: left, posterior, inferior."""

VOXEL_SIZES_MM = (1.0, 2.0, 4.0)
"""The voxel sizes that divide the field without remainder."""

AIR, BONE, CSF, MUSCLE, SKIN, GRAY, WHITE, FAT = 0.0, 0.1, 0.28, 0.48, 0.5, 0.65, 0.87, 1.1
_SKULL_MM = (2.0, 2.7, 4.2, 5.0, 6.5, 7.3, 8.3)  # from the brain outwards: fluid, inner table, diploe, outer table
_SKULL = (CSF, BONE, BONE, MUSCLE, MUSCLE, BONE, BONE)
_SCALP_MM = (-0.5, 0.5, 1.2, 1.9, 6.5, 7.5)  # from the surface inwards: skin, fat, muscle where there is room
_SCALP = (AIR, SKIN, SKIN, FAT, FAT, MUSCLE)
_HEAD_MM = 14.0  # from the brain to the surface
_EDGE_MM = 1.5  # partial volume at the outline of a lesion

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Stroke:
    """One infarct, in the space of the template.

    Attributes:
        center_mm: Center in MNI space (x to the right, y to the front, z up).
        aspect: Relative radii along x, y and z; only their ratios matter.
        volume_ml: Volume of the mask.
        darkness: Darkness from 0 (subtle, between gray matter and fluid) to 1 (as dark as cerebrospinal fluid).
        rim_mm: Width of the gliotic rim around the cavity.
        growth: Factor on the volume, for the same lesion at another time.
    """

    center_mm: tuple[float, float, float]
    aspect: tuple[float, float, float]
    volume_ml: float
    darkness: float
    rim_mm: float
    growth: float = 1.0

    @property
    def radius_mm(self) -> float:
        """Return the radius of a ball of this volume, without growth."""
        return float((1000 * self.volume_ml * 3 / (4 * np.pi)) ** (1 / 3))


def grid(voxel_mm: float) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Return shape and RAS affine of the field at a voxel size.

    Args:
        voxel_mm: One of `VOXEL_SIZES_MM`; 1 gives 197x233x189, the grid of ATLAS R1.1.

    Raises:
        UserError: The voxels do not divide the field.
    """
    if voxel_mm not in VOXEL_SIZES_MM:
        raise UserError(f"voxel_mm is {voxel_mm}; the field of {FIELD_MM} mm can be divided by {VOXEL_SIZES_MM}.")
    x, y, z = (round(extent / voxel_mm) + 1 for extent in FIELD_MM)
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    affine[:3, 3] = ORIGIN_MM
    return (x, y, z), affine


def render(
    strokes: list[Stroke], voxel_mm: float, gain: float, subject: np.random.Generator, scan: np.random.Generator
) -> tuple[Array, list[Mask]]:
    """Return one scan of one subject and its lesion masks.

    Args:
        strokes: Infarcts to paint; a voxel of two infarcts belongs to the earlier one.
        voxel_mm: One of `VOXEL_SIZES_MM`.
        gain: Intensity scale of the site, up to 1.
        subject: Random generator of anatomy and lesion outlines; the same state gives the same head.
        scan: Random generator of the acquisition.

    Returns:
        T1-weighted intensities in [0, 100], shape `(X, Y, Z)`, air exactly 0, and one mask per stroke.
    """
    shape, _ = grid(voxel_mm)
    points_mm = _template_points(shape, subject)
    head, parenchyma, brain = _pull(_head(), points_mm)
    masks = _paint(head, brain, parenchyma > 0.5, points_mm, strokes, voxel_mm, subject)
    return _acquire(head, voxel_mm, gain, scan), masks


def _smooth_noise(rng: np.random.Generator, sigma_mm: float, shape: tuple[int, ...]) -> Array:
    """Return a Gaussian random field: mean 0, standard deviation 1, the same field at every voxel size."""
    coarse = [int(extent / sigma_mm * 2) + 2 for extent in FIELD_MM]
    noise = gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), sigma=2, mode="wrap")
    return _resize((noise - noise.mean()) / noise.std(), shape)


def _resize(volume: Array, shape: tuple[int, ...]) -> Array:
    """Return a volume resampled trilinearly to a grid with the same corner voxel centers."""
    batch = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None, None]
    resized: Array = F.interpolate(batch, size=shape, mode="trilinear", align_corners=True)[0, 0].numpy()
    return resized


def _points(shape: tuple[int, ...]) -> Array:
    """Return the MNI coordinates of the voxel centers, shape `(3, X, Y, Z)`, in mm."""
    axes = [
        np.linspace(first, first + extent, size, dtype=np.float32)
        for first, extent, size in zip(ORIGIN_MM, FIELD_MM, shape, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _pull(volumes: torch.Tensor, points_mm: Array) -> Array:
    """Return the values of `volumes` `(C, X, Y, Z)`, which span the field, at `points_mm` `(3, ...)`; 0 outside."""
    scale = np.divide(2, FIELD_MM, dtype=np.float32)[:, None, None, None]
    first = np.array(ORIGIN_MM, dtype=np.float32)[:, None, None, None]
    unit = torch.from_numpy((points_mm - first) * scale - 1)
    where = unit.flip(0).movedim(0, -1)[None]  # torch names the last axis first
    pulled: Array = F.grid_sample(volumes[None], where, align_corners=True)[0].numpy()
    return pulled


@cache
def _head() -> torch.Tensor:
    """Return template intensities, parenchyma and brain at 1 mm, shape `(3, 197, 233, 189)`."""
    template = np.asarray(load_mni152_template(resolution=1).dataobj, dtype=np.float32)
    gray = np.asarray(load_mni152_gm_template(resolution=1).dataobj, dtype=np.float32)
    white = np.asarray(load_mni152_wm_template(resolution=1).dataobj, dtype=np.float32)
    brain = template > 0
    crisp = template + 0.7 * (template - gaussian_filter(template, 2.0))  # an average of heads is blurred
    head = np.where(brain, np.clip(crisp, 0.8 * CSF, WHITE + 0.05), _wrapping(brain))
    return torch.from_numpy(np.stack([head, gaussian_filter(gray + white, 1.0), brain.astype(np.float32)]))


def _wrapping(brain: Mask) -> Array:
    """Return the surroundings of the brain: fluid, skull, scalp and neck; the face is removed, as in ATLAS R1.1."""
    rng = np.random.default_rng(0)
    outside_mm = _outside_mm(brain) * (1 + 0.12 * _smooth_noise(rng, 20, brain.shape))
    x, y, z = _points(brain.shape)
    neck_mm = 65 * (1 - np.sqrt((x / 78) ** 2 + ((y + 25) / 84) ** 2 + ((z + 85) / 75) ** 2))
    below_skin_mm = np.maximum(neck_mm, _HEAD_MM - outside_mm)
    scalp = np.interp(below_skin_mm, _SCALP_MM, _SCALP) * (1 + 0.12 * _smooth_noise(rng, 4, brain.shape))
    skull = np.interp(outside_mm, _SKULL_MM, _SKULL)
    beyond_skull = np.clip(outside_mm - _SKULL_MM[-1], 0, 1)
    face = (0.6 * y - 0.8 * z > 60) & (outside_mm > 3)
    return np.where(face, AIR, skull + beyond_skull * (scalp - skull)).astype(np.float32)


def _outside_mm(brain: Mask) -> Array:
    """Return the distance to the inside of the skull; computed at 2 mm, because it is slow to compute and smooth."""
    coarse = brain[::2, ::2, ::2]
    cisterns_mm = 10.0  # gaps of the brain up to twice as wide hold fluid, not bone
    closed = distance_transform_edt(distance_transform_edt(~coarse, 2.0) < cisterns_mm, 2.0) > cisterns_mm
    return _resize(distance_transform_edt(~(closed | coarse), 2.0), brain.shape)


def _template_points(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return the template point of each voxel of a new subject, shape `(3, X, Y, Z)`, in mm.

    1. small affine: size of the head, rotation, shift
    2. wider or narrower ventricles
    3. smooth deformation of about 2.5 mm, up to 8 mm

    The template is symmetric, so no random flip is needed.
    """
    size = rng.uniform(0.94, 1.04, size=3)
    turn = Rotation.from_euler("xyz", rng.uniform(-4, 4, size=3), degrees=True).as_matrix()
    matrix = (turn / size).astype(np.float32)
    points = np.einsum("ij,jxyz->ixyz", matrix, _points(shape))
    points += rng.uniform(-3, 3, size=(3, 1, 1, 1)).astype(np.float32)
    points = _widen_ventricles(points, rng.uniform(-0.1, 0.4))
    for axis in points:
        axis += 2.5 * _smooth_noise(rng, 18, shape)
    return points


def _widen_ventricles(points: Array, widening: float) -> Array:
    """Return the points with those around the lateral ventricles moved towards their common center by a share `widening`."""
    center = np.array([0, -14, 16], dtype=np.float32)[:, None, None, None]
    reach_mm = np.array([22, 40, 22], dtype=np.float32)[:, None, None, None]
    offset = points - center
    nearness = np.exp(-0.5 * ((offset / reach_mm) ** 2).sum(axis=0))
    return np.asarray(points - widening * nearness * offset, dtype=np.float32)


def _paint(
    head: Array,
    brain: Array,
    parenchyma: Mask,
    points_mm: Array,
    strokes: list[Stroke],
    voxel_mm: float,
    rng: np.random.Generator,
) -> list[Mask]:
    """Darken `head` in place with each infarct and return the masks, which never overlap."""
    free = parenchyma.copy()
    masks = []
    for stroke in strokes:
        allowed = free & (points_mm[0] * np.sign(stroke.center_mm[0]) > 1)  # infarcts do not cross the midline
        depth_mm = _lesion_depth(stroke, points_mm, allowed, voxel_mm, rng)
        _darken(head, depth_mm, stroke, brain, _smooth_noise(rng, 3, head.shape))
        masks.append(allowed & (depth_mm >= 0))
        free &= depth_mm < -3
    return masks


def _lesion_depth(stroke: Stroke, points_mm: Array, allowed: Mask, voxel_mm: float, rng: np.random.Generator) -> Array:
    """Return the depth below the outline of a lesion in mm, negative outside.

    The distance from the center is that of an ellipsoid, made irregular by noise on two scales. The outline is the distance at
    which the allowed voxels inside have the requested volume.
    """
    aspect = np.array(stroke.aspect) / np.prod(stroke.aspect) ** (1 / 3)
    axes = zip(points_mm, stroke.center_mm, aspect, strict=True)
    distance_mm = np.sqrt(sum(((points - center) / float(radius)) ** 2 for points, center, radius in axes))
    radius_mm = stroke.radius_mm
    distance_mm += 0.3 * radius_mm * _smooth_noise(rng, max(radius_mm / 2.5, 4), allowed.shape)
    distance_mm += min(0.1 * radius_mm, 0.8) * _smooth_noise(rng, 3.5, allowed.shape)
    voxels = max(1, round(1000 * stroke.volume_ml * stroke.growth / voxel_mm**3))
    outline_mm = np.partition(distance_mm[allowed], voxels - 1)[voxels - 1]
    return np.asarray(outline_mm - distance_mm, dtype=np.float32)


def _darken(head: Array, depth_mm: Array, stroke: Stroke, brain: Array, texture: Array) -> None:
    """Blend a gliotic rim and a fluid-like cavity into `head` in place; no voxel becomes brighter."""
    cavity = CSF + (1 - stroke.darkness) * 0.6 * (GRAY - CSF) + 0.05 * texture
    rim = cavity + 0.4 * (WHITE - cavity)
    for level, edge_mm in ((rim, 0.0), (cavity, stroke.rim_mm)):
        share = brain * np.clip((depth_mm - edge_mm) / _EDGE_MM + 0.5, 0, 1)
        head += share * np.minimum(level - head, 0)


def _acquire(head: Array, voxel_mm: float, gain: float, rng: np.random.Generator) -> Array:
    """Return a T1-weighted scan from template intensities: contrast, bias field, blur, Rician noise, scale."""
    contrast = _contrast(rng)
    scan = np.interp(head, *contrast).astype(np.float32)
    scan *= np.exp(rng.uniform(0.04, 0.12) * _smooth_noise(rng, 45, head.shape))
    scan = gaussian_filter(scan, rng.uniform(0.3, 0.6) / voxel_mm)
    deviation = rng.uniform(0.8, 2.2)
    scan += deviation * rng.standard_normal(head.shape, dtype=np.float32)
    scan = np.hypot(scan, deviation * rng.standard_normal(head.shape, dtype=np.float32))
    scan[head < BONE / 2] = AIR
    return np.asarray(np.round(np.clip(gain * scan, 0, 100), 2), dtype=np.float32)


def _contrast(rng: np.random.Generator) -> tuple[list[float], list[float]]:
    """Return a monotone, piecewise linear curve from template to scan intensities, as two lists of nodes."""
    fluid = rng.uniform(10, 22)
    gray = rng.uniform(42, 54)
    white = gray + rng.uniform(15, 24)
    fat = rng.uniform(78, 96)
    return [AIR, BONE, CSF, GRAY, WHITE, FAT], [0, rng.uniform(3, 8), fluid, gray, white, fat]
