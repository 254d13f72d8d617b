"""Geometry of voxel grids: the MNI grid, volumes of voxels, boxes, sampling at points, resampling and distances.

A grid is a size `(X, Y, Z)` with an affine `(4, 4)` from voxels to millimeters in RAS.
"""

import itertools
from collections.abc import Sequence
from math import ceil
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import SpatialResample, generate_spatial_bounding_box
from nibabel.affines import apply_affine, from_matvec
from nibabel.orientations import inv_ornt_aff, io_orientation
from numpy.typing import NDArray
from scipy import ndimage

from strokelesion.transforms.sample_error import SampleError, source_of

# The space of ATLAS R1.x, R2.0 and all synthetic scans, its extent, and the center of its first voxel of 1 mm.
MNI_SPACE = "MNI152NLin2009aSym"
MNI_EXTENT_MM = (197, 233, 189)
MNI_FIRST_MM = (-98.0, -134.0, -72.0)
# The space of FSL, and the grid of its template of 1 mm; x runs to the left, as FSL stores it.
FSL_SPACE = "MNI152NLin6Asym"
FSL_GRID = (((-1.0, 0, 0, 90), (0, 1.0, 0, -126), (0, 0, 1.0, -72), (0, 0, 0, 1.0)), (182, 218, 182))
FSL_NOTE = (
    "Affine registration to MNI152NLin2009aSym; MNI152NLin6Asym is taken to have the same millimeters. No nonlinear "
    "registration was done: local differences of several millimeters to the template remain."
)
# A mask whose corners are further than this from those of its image has another grid.
GRID_TOLERANCE_MM = 0.1
UNTURNED = np.array([[0, 1], [1, 1], [2, 1]])  # the orientation of a volume whose axes are in order
OF_OTHER_GRID = (
    "If the mask was drawn on this scan, resample it to the scan with nearest neighbors. If it was drawn on another image, "
    "such as a T2 or a template, register that image to the scan and move the mask with it."
)
OF_NO_GRID = (
    "The mask has no affine (its qform and sform codes are 0). If its voxels are in the order of those of the scan, copy the "
    "affine of the scan to it."
)
# If all edges of the voxels are shorter, distances to a closed mask are computed at every second voxel.
FINE_MM = 1.5

Value = TypeVar("Value", bound=np.generic)


def mni_grid(spacing_mm: Sequence[float]) -> tuple[torch.Tensor, list[int]]:
    """Return the affine and the size of the grid of `MNI_SPACE` for a voxel size."""
    size = [ceil(extent / edge) for extent, edge in zip(MNI_EXTENT_MM, spacing_mm, strict=True)]
    return torch.from_numpy(from_matvec(np.diag(spacing_mm), MNI_FIRST_MM)), size


def grid_of(space: str) -> tuple[torch.Tensor, list[int]]:
    """Return the affine and the size of the grid of 1 mm of `MNI_SPACE` or `FSL_SPACE`."""
    return {MNI_SPACE: mni_grid((1.0, 1.0, 1.0)), FSL_SPACE: (torch.tensor(FSL_GRID[0]).double(), list(FSL_GRID[1]))}[space]


def to_mni_space(probabilities: MetaTensor, to_mni: NDArray[np.floating], space: str = MNI_SPACE) -> MetaTensor:
    """Return class probabilities `(C, X, Y, Z)` on the grid of a space at 1 mm, with background outside the scan.

    Args:
        probabilities: Class probabilities on the scan's grid.
        to_mni: Affine from the scan's millimeters to MNI millimeters, which are the same in both spaces; see `FSL_NOTE`.
        space: `MNI_SPACE` or `FSL_SPACE`.
    """
    affine, size = grid_of(space)
    moved = MetaTensor(probabilities.as_tensor(), affine=torch.from_numpy(to_mni) @ probabilities.affine)
    there: Any = SpatialResample(mode="bilinear", padding_mode="zeros")(moved, dst_affine=affine, spatial_size=size)
    there[0] += 1 - there.sum(dim=0)
    return MetaTensor(there.as_tensor(), affine=affine)


def voxel_ml(affine: Any) -> float:
    """Return the volume of a voxel in milliliters, from an affine in millimeters (array or tensor)."""
    return abs(float(np.linalg.det(np.asarray(affine, dtype=float)[:3, :3]))) / 1000


def match_grid(image: MetaTensor, mask: MetaTensor) -> MetaTensor:
    """Return a mask `(C, X, Y, Z)` on the grid of its image. Only the order and the direction of its axes may differ.

    Voxels are moved, not interpolated: a mask that another program stored from left to right keeps each of its voxels. Axes
    are not moved if the image or the mask has no orientation, because nibabel then guesses one.

    Raises:
        SampleError: The mask has another shape, or its corners are further than `GRID_TOLERANCE_MM` from those of the image.
    """
    turn = io_orientation(np.linalg.solve(np.asarray(image.affine, dtype=float), np.asarray(mask.affine, dtype=float)))
    is_turned = is_oriented(image) and is_oriented(mask) and not np.isnan(turn).any() and not np.array_equal(turn, UNTURNED)
    turned = turn_axes(mask, turn) if is_turned else mask
    shapes = tuple(image.shape[1:]), tuple(turned.shape[1:])
    shift_mm = corner_shift_mm(shapes[0], image.affine, turned.affine)
    if shapes[0] != shapes[1] or shift_mm > GRID_TOLERANCE_MM:
        raise SampleError(
            source_of(mask),
            f"({tuple(mask.shape[1:])} voxels) is not on the grid of {source_of(image)} ({shapes[0]} voxels; corners "
            f"{shift_mm:.1f} mm apart); expected the same shape and affine, in any order of axes",
            OF_OTHER_GRID if is_oriented(mask) else OF_NO_GRID,
        )
    if is_turned:
        turned.affine = image.affine  # affines that differ by rounding could later lead to different axes
    return turned


def is_oriented(volume: MetaTensor) -> bool:
    """Return whether a volume has an affine of its own; a NIfTI file has none if both its codes are 0."""
    return any(int(volume.meta.get(code, 1)) != 0 for code in ("qform_code", "sform_code"))


def turn_axes(volume: MetaTensor, turn: NDArray[Any]) -> MetaTensor:
    """Return a volume `(C, X, Y, Z)` with its axes in another order and direction, as nibabel's orientations `(3, 2)` say."""
    shape, axes = volume.shape[1:], turn[:, 0].astype(int)
    values = volume.as_tensor().flip([axis + 1 for axis in range(3) if turn[axis, 1] < 0])
    values = values.permute(0, *(int(axis) + 1 for axis in np.argsort(axes))).contiguous()
    turned = MetaTensor(values, meta=dict(volume.meta))
    turned.affine = torch.from_numpy(np.asarray(volume.affine, dtype=float) @ inv_ornt_aff(turn, shape))
    return turned


def corner_shift_mm(shape: Sequence[int], one: Any, other: Any) -> float:
    """Return the largest distance in mm between the corners of a volume `(X, Y, Z)` under two affines."""
    corners = list(itertools.product(*((0, size - 1) for size in shape)))
    shift_mm = apply_affine(np.asarray(one, dtype=float), corners) - apply_affine(np.asarray(other, dtype=float), corners)
    return float(np.linalg.norm(shift_mm, axis=1).max())


def bounding_box(mask: torch.Tensor | NDArray[Any], margin: int = 0) -> tuple[slice, ...]:
    """Return the box around the nonzero voxels of `(X, Y, Z)` plus a margin in voxels; one voxel if there are none."""
    low, high = generate_spatial_bounding_box(mask[None], margin=margin, allow_smaller=True)
    return tuple(slice(int(start), int(stop)) if stop else slice(0, 1) for start, stop in zip(low, high, strict=True))


def sample_at(volume: torch.Tensor, affine: torch.Tensor, points_mm: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    """Return the values `(1, x, y, z)` of a volume `(1, X, Y, Z)` at points `(x, y, z, 3)`; 0 outside the volume.

    The points set the precision and the device of the computation. `mode` is `bilinear` (trilinear) or `nearest`.
    """
    inverse = torch.linalg.inv(affine.as_subclass(torch.Tensor).double())
    half_size = (torch.tensor(volume.shape[1:]) - 1).double() / 2
    # Coordinates of grid_sample run from -1 to 1, in the order z, y, x.
    to_grid, offset = inverse[:3, :3] / half_size[:, None], inverse[:3, 3] / half_size - 1
    to_grid, offset = (part.flip(0).to(points_mm.device, points_mm.dtype) for part in (to_grid, offset))
    values = volume.as_subclass(torch.Tensor).to(points_mm.device, points_mm.dtype)[None]
    return F.grid_sample(values, (points_mm @ to_grid.T + offset)[None], mode=mode, align_corners=True)[0]


def look_up(volume: NDArray[Value], affine: NDArray[np.floating], points_mm: NDArray[np.floating]) -> NDArray[Value]:
    """Return the values of a volume `(X, Y, Z)` in the voxels nearest to points `(N, 3)`; 0 outside the volume."""
    voxels = np.rint(apply_affine(np.linalg.inv(affine), points_mm)).astype(int)
    known = ((voxels >= 0) & (voxels < volume.shape)).all(axis=1)
    values = np.zeros(len(voxels), dtype=volume.dtype)
    values[known] = volume[tuple(voxels[known].T)]
    return values


def resampled(volume: MetaTensor, target: MetaTensor, mode: str = "bilinear", padding_mode: str = "zeros") -> MetaTensor:
    """Return a volume resampled to the grid and the device of another, as floats, without its applied operations.

    Args:
        volume: Volume `(C, x, y, z)` with its affine, of any type.
        target: Volume `(C, X, Y, Z)` with its affine, which defines the grid.
        mode: Interpolation: `bilinear` (trilinear), or `nearest` for labels.
        padding_mode: Values beyond the edge of the volume: `zeros`, or `border` for the nearest voxel.
    """
    resample = SpatialResample(mode=mode, padding_mode=padding_mode, dtype=np.float32)
    alone = MetaTensor(volume.as_tensor().to(target.device).float(), affine=volume.affine)
    # Voxels that become 0 need not be computed. A brain fills about a quarter of a whole-head scan.
    box = reach(volume, target) if padding_mode == "zeros" else tuple(slice(0, size) for size in target.shape[1:])
    affine = target.affine.clone()
    affine[:3, 3] += affine[:3, :3] @ torch.tensor([part.start for part in box], dtype=affine.dtype)
    there = alone.new_zeros((len(alone), *target.shape[1:])).as_subclass(torch.Tensor)
    if all(part.start < part.stop for part in box):
        size = [part.stop - part.start for part in box]
        there[:, *box] = resample(alone, dst_affine=affine, spatial_size=size).as_subclass(torch.Tensor)
    return MetaTensor(there, affine=target.affine)


def reach(volume: MetaTensor, target: MetaTensor) -> tuple[slice, ...]:
    """Return the box of target voxels that the volume can reach; outside it the resampled volume is 0."""
    corners = np.array(list(itertools.product(*((-1, size) for size in volume.shape[1:]))))
    there = apply_affine(np.linalg.inv(target.affine.numpy()) @ volume.affine.numpy(), corners)
    low, high = np.floor(there.min(axis=0)), np.ceil(there.max(axis=0)) + 1
    starts, stops = (np.clip(edge, 0, target.shape[1:]).astype(int).tolist() for edge in (low, high))
    return tuple(itertools.starmap(slice, zip(starts, stops, strict=True)))


def spread_from(known: NDArray[np.bool_], values: NDArray[Value]) -> NDArray[Value]:
    """Return values `(X, Y, Z)` where they are known, and elsewhere the value of the nearest known voxel."""
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    spread: NDArray[Value] = values[tuple(nearest)]
    return spread


def distances_mm(mask: torch.Tensor, spacing_mm: Sequence[float]) -> torch.Tensor:
    """Return the exact Euclidean distance from each voxel's center to that of the nearest voxel of a mask `(X, Y, Z)`.

    It is 0 inside the mask and infinite if the mask is empty, in double precision and on the device of the mask.
    """
    if not mask.any():
        return torch.full(mask.shape, torch.inf, dtype=torch.float64, device=mask.device)
    if mask.device.type == "cpu":
        return torch.as_tensor(ndimage.distance_transform_edt(~mask.numpy(), sampling=tuple(spacing_mm)))
    return lower_envelopes(mask, spacing_mm).double().sqrt()


def lower_envelopes(mask: torch.Tensor, spacing_mm: Sequence[float]) -> torch.Tensor:
    """Return the squared distances `(X, Y, Z)` to a mask, axis by axis: d'(i) = min over j of d(j) + (i - j)^2.

    Source: Felzenszwalb, Huttenlocher: Distance Transforms of Sampled Functions, Theory of Computing 2012, equation 1. The
    minimum is taken over all j at once, which suits a GPU.
    """
    squared = torch.full(mask.shape, torch.inf, device=mask.device).masked_fill(mask, 0)
    for axis, edge_mm in enumerate(spacing_mm):
        squared = squared.movedim(axis, 0)
        positions_mm = edge_mm * torch.arange(len(squared), device=mask.device)
        nearest = torch.full_like(squared, torch.inf)
        for plane, position_mm in zip(squared, positions_mm, strict=True):
            nearest = torch.minimum(nearest, plane + ((positions_mm - position_mm) ** 2)[:, None, None])
        squared = nearest.movedim(0, axis)
    return squared


def is_outside(mask: MetaTensor, margin_mm: float, closing_mm: float) -> torch.Tensor:
    """Return the voxels `(X, Y, Z)` that are further than a margin from the closed mask `(1, X, Y, Z)`, on its device.

    On grids finer than `FINE_MM`, distances are computed at every second voxel and interpolated: the border differs by 0.3 mm
    on average, in a tenth of the time. See `surplus_mm`.
    """
    spacing_mm = mask.pixdim.tolist()
    inside = mask.as_tensor()[0] > 0
    if max(spacing_mm) >= FINE_MM:
        return surplus_mm(inside, spacing_mm, margin_mm, closing_mm) > 0
    half = F.avg_pool3d(inside[None, None].float(), 2, ceil_mode=True, count_include_pad=False)[0, 0] >= 0.5
    coarse_mm = surplus_mm(half, [2 * edge_mm for edge_mm in spacing_mm], margin_mm, closing_mm)
    fine_mm = F.interpolate(coarse_mm[None, None], scale_factor=2.0, mode="trilinear")[0, 0]
    return fine_mm[tuple(slice(size) for size in inside.shape)] > 0


def surplus_mm(mask: torch.Tensor, spacing_mm: Sequence[float], margin_mm: float, closing_mm: float) -> torch.Tensor:
    """Return the distance of each voxel `(X, Y, Z)` beyond a margin around the closed mask; positive is outside.

    The mask is dilated by margin + `closing_mm` and eroded by `closing_mm`, which closes cavities at its surface. Distances do
    this faster than a ball as structuring element. `closing_mm` is half the width of the widest cavity that is closed.
    """
    reach_mm = margin_mm + closing_mm
    rims = [int(reach_mm / edge_mm) + 1 for edge_mm in spacing_mm]  # padding, so that the outside exists beyond the edge too
    padded = F.pad(mask, [rim for rim in reversed(rims) for _ in range(2)])
    beyond_mm = distances_mm(padded, spacing_mm) - reach_mm
    if closing_mm > 0:
        # A voxel at a distance of exactly `closing_mm` is outside.
        beyond_mm = float(np.nextafter(closing_mm, np.inf)) - distances_mm(beyond_mm > 0, spacing_mm)
    return beyond_mm[tuple(slice(rim, -rim) for rim in rims)].float()
