"""What a labeled scan shows at a glance, at 4 mm: numbers that raise a suspicion and prove nothing.

A *portrait* is small whatever the scan: axes in RAS, voxels of 4 mm, air 0 and the median tissue 1, and beside it the share of
each voxel that a mask fills. Each function below says what its number can tell, and what it cannot.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation, ResizeWithPadOrCrop
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from strokelesion.transforms.intensity import BRIGHTEST, tissue_scale

VOXEL_MM = 4.0
# A head is what is connected of this brightness, with gaps of up to twice the reach: cavities, sinuses, old infarcts.
HEAD_LEVEL = 0.2
GAP_REACH_MM = 20.0
# Scalp and skull end before this share of the way from the surface to the middle of a head.
CORE_DEPTH = 0.45
# Coils brighten what is near them, over distances like this; fluid and tissue change places over shorter ones.
COIL_SIGMA_MM = 12.0
# Where the middle nine tenths of a core are more alike than this, it shows no fluid.
LEAST_SPREAD = 0.2
RIM_MM = 12.0
# What asymmetry is compared on: a box about the head's middle, large enough for any.
BOX_MM = (192.0, 240.0, 208.0)
ASYMMETRY_MM = 8.0

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Portrait:
    """A small picture of a labeled scan.

    Attributes:
        image: `(X, Y, Z)`, air 0, median tissue 1.
        masks: `(M, X, Y, Z)`, which share of each voxel each mask fills, the main mask first.
    """

    def __init__(self, image: Array, masks: Array) -> None:
        self.image = image
        self.masks = masks

    @cached_property
    def head(self) -> Mask:
        """Where the head is, its cavities included."""
        reach = round(GAP_REACH_MM / VOXEL_MM)
        components, count = ndimage.label(np.pad(self.image > HEAD_LEVEL, reach + 1))
        largest = components == 1 + np.argmax(np.bincount(components.ravel())[1:]) if count else components > 0
        closed = ndimage.binary_fill_holes(ndimage.binary_closing(largest, iterations=reach))
        inside: Mask = closed[(slice(reach + 1, -reach - 1),) * 3]
        return inside

    @cached_property
    def near_lesion(self) -> Mask:
        """Where a mask is, or touches."""
        touched: Mask = ndimage.binary_dilation(self.masks.max(axis=0) > 0)
        return touched

    @cached_property
    def core(self) -> Mask:
        """The inner part of the head, without skull, scalp and lesions."""
        depth = ndimage.distance_transform_edt(np.pad(self.head, 1))[1:-1, 1:-1, 1:-1]
        inner: Mask = (depth > CORE_DEPTH * depth.max()) & ~self.near_lesion
        return inner


def portray(image: MetaTensor, masks: Sequence[torch.Tensor], scale: tuple[float, float] | None = None) -> Portrait:
    """Return the portrait of a T1 and its 0/1 masks, all `(1, X, Y, Z)` on one grid.

    Args:
        image: the T1.
        masks: the masks, the main mask first.
        scale: what `tissue_scale` says of the image, where that is known.

    Raises:
        SampleError: the image is no T1 scan, see `tissue_scale`.
    """
    air, tissue = scale or tissue_scale(image)
    scaled = ((image - air) / (tissue - air)).clamp(0, BRIGHTEST)
    plain = torch.cat([x.as_subclass(torch.Tensor).float() for x in (scaled, *masks)])
    turned: Any = Orientation(axcodes="RAS", labels=None)(MetaTensor(plain, affine=image.affine))
    edges_mm = turned.affine[:3, :3].norm(dim=0).tolist()
    size = [max(1, round(n * edge_mm / VOXEL_MM)) for n, edge_mm in zip(turned.shape[1:], edges_mm, strict=True)]
    # Each new voxel is the mean of those it covers: no voxel of a small lesion gets lost.
    small = F.interpolate(torch.as_tensor(turned)[None], size=size, mode="area")[0].numpy()
    return Portrait(small[0], small[1:])


def outside_shares(portrait: Portrait) -> list[float]:
    """Return which share of each mask lies outside the head; of an empty mask, 0.

    Tells a mask of another scan, or one shifted or turned by centimeters. Cannot tell one that lies in the wrong part of the
    head.
    """
    return [float(mask[~portrait.head].sum() / max(mask.sum(), 1e-9)) for mask in portrait.masks]


def right_share(portrait: Portrait) -> float:
    """Return which share of the main mask lies right of the head's middle; NaN where there is no lesion or no head.

    The middle is that of the head's voxels from left to right. In a head turned aside, or one of which much is cut off, it is
    off by some mm; lesions near the middle are on both sides then.
    """
    if not portrait.head.any() or not portrait.masks[0].any():
        return float("nan")
    middle, by_x = _middle(portrait.head)[0], portrait.masks[0].sum(axis=(1, 2))
    return float(by_x[np.arange(len(by_x)) > middle].sum() / by_x.sum())


def bright_fluid(portrait: Portrait) -> float:
    """Return how much further the bright tail of the head's core reaches than the dark one, from -1 to 1; 0 without any tail.

    (p95 - 2 p50 + p5) / (p95 - p5) of the intensities, each divided by the mean around it (Kelly's skewness; the division takes
    off the coil's shading). Fluid is the tail: dark in T1 and in FLAIR, bright in T2. In 51 T1s, 47 of them composed, it was
    below -0.05; painted as T2s, seven of ten labeled heads were above 0.1, and four of them without skull. It cannot tell FLAIR
    from T1, nor anything where the core shows no fluid.
    """
    core = portrait.core.astype(np.float32)
    if core.sum() < 2:
        return 0.0
    sigma = COIL_SIGMA_MM / VOXEL_MM
    around = ndimage.gaussian_filter(portrait.image * core, sigma) / np.maximum(ndimage.gaussian_filter(core, sigma), 1e-6)
    low, median, high = np.percentile((portrait.image / np.maximum(around, 1e-6))[portrait.core], (5, 50, 95))
    return float((low + high - 2 * median) / (high - low)) if high - low > LEAST_SPREAD else 0.0


def bright_lesion(portrait: Portrait) -> float:
    """Return the median of all lesions by the upper quartile of what lies within 12 mm of them; 0 where either is missing.

    Old infarcts are darker than white matter in T1: in 42 composed T1s this was at most 0.8. In T2 and, but for their cavities,
    in FLAIR they are brighter than all around. Fresh blood and masks that were drawn on fat can also raise it.
    """
    lesion = portrait.masks.max(axis=0)
    inside = lesion >= min(0.5, 0.9 * float(lesion.max()))
    rim = ndimage.binary_dilation(inside, iterations=round(RIM_MM / VOXEL_MM)) & ~portrait.near_lesion & portrait.head
    if not lesion.any() or not rim.any():
        return 0.0
    return float(np.median(portrait.image[inside]) / max(np.percentile(portrait.image[rim], 75), 1e-6))


def asymmetry(portrait: Portrait) -> Array:
    """Return the right half of a head less its left half, at 8 mm, about the head's middle; 0 at lesions and opposite to them.

    Heads, coils and the way faces are cut off are a little lopsided, alike within a site; a scan that was mirrored has the
    signs reversed. Where a site's heads are not alike it tells nothing.
    """
    size = [round(extent_mm / VOXEL_MM) for extent_mm in BOX_MM]
    shift = np.round([n // 2 - 0.5 - middle for n, middle in zip(portrait.image.shape, _middle(portrait.head), strict=True)])
    kept = np.stack([portrait.image, ~portrait.near_lesion])
    centered = np.stack([np.roll(volume, shift.astype(int), axis=(0, 1, 2)) for volume in kept])
    image, free = torch.as_tensor(ResizeWithPadOrCrop(spatial_size=size)(torch.as_tensor(centered)))
    difference = (image - image.flip(0)) * free * free.flip(0)
    step = round(ASYMMETRY_MM / VOXEL_MM)
    pooled = F.avg_pool3d(difference[None, None], step)[0, 0]
    return pooled[len(pooled) // 2 :].numpy()


def _middle(head: Mask) -> tuple[float, ...]:
    return tuple(float(x) for x in ndimage.center_of_mass(head)) if head.any() else tuple(n / 2 for n in head.shape)
