"""Thumbnail of a labeled scan at 4 mm, and measures of it that indicate possible problems but prove none.

The thumbnail has axes in RAS, voxels of 4 mm, air 0 and median tissue 1. It also has the share of each voxel that each mask
fills. Each measure states what it can and cannot detect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from strokelesion.transforms.components import largest_component
from strokelesion.transforms.intensity import BRIGHTEST

VOXEL_MM = 4.0
# The head is the largest component above this level. Gaps up to twice the reach are closed: cavities, sinuses, old infarcts.
HEAD_LEVEL = 0.2
GAP_REACH_MM = 20.0
# Scalp and skull are shallower than this share of the largest depth of the head.
CORE_DEPTH = 0.45
# Coil shading varies over distances like this; fluid and tissue alternate over shorter distances.
COIL_SIGMA_MM = 12.0
# A core whose middle nine tenths of intensities have a smaller spread shows no fluid.
LEAST_SPREAD = 0.2
RIM_MM = 12.0

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """Thumbnail of a labeled scan.

    Attributes:
        image: Image `(X, Y, Z)` with air 0 and median tissue 1.
        masks: Share of each voxel that each mask fills `(M, X, Y, Z)`, the main mask first.
    """

    image: Array
    masks: Array

    @cached_property
    def head(self) -> Mask:
        """Return the mask of the head, including its cavities."""
        reach = round(GAP_REACH_MM / VOXEL_MM)
        largest = largest_component(np.pad(self.image > HEAD_LEVEL, reach + 1), neighbors=6)
        closed = ndimage.binary_fill_holes(ndimage.binary_closing(largest, iterations=reach))
        inside: Mask = closed[(slice(reach + 1, -reach - 1),) * 3]
        return inside

    @cached_property
    def near_lesion(self) -> Mask:
        """Return the union of the masks, dilated by one voxel."""
        touched: Mask = ndimage.binary_dilation(self.masks.max(axis=0) > 0)
        return touched

    @cached_property
    def core(self) -> Mask:
        """Return the mask of the inner head, without skull, scalp and lesions."""
        depth = ndimage.distance_transform_edt(np.pad(self.head, 1))[1:-1, 1:-1, 1:-1]
        inner: Mask = (depth > CORE_DEPTH * depth.max()) & ~self.near_lesion
        return inner

    @property
    def outside_shares(self) -> list[float]:
        """Return the share of each mask outside the head, 0 for an empty mask.

        This detects masks of another scan and masks that are shifted or rotated by centimeters. It cannot detect a mask in
        the wrong part of the head.
        """
        return [float(mask[~self.head].sum() / max(mask.sum(), 1e-9)) for mask in self.masks]

    @property
    def fluid_skewness(self) -> float:
        """Return the skewness of intensities in the head's core, from -1 (dark tail) to 1 (bright tail); 0 without a tail.

        Kelly's skewness is (p95 - 2 p50 + p5) / (p95 - p5). Each intensity is first divided by its local mean, to remove coil
        shading. Fluid forms the tail: dark in T1 and FLAIR, bright in T2. In 51 T1 scans (47 of them synthetic) it was below
        -0.05. Ten labeled heads were rendered as T2: it was above 0.1 in seven, and in four of them without skull. It cannot
        distinguish FLAIR from T1, and it detects nothing if the core shows no fluid.
        """
        core = self.core.astype(np.float32)
        if core.sum() < 2:
            return 0.0
        sigma = COIL_SIGMA_MM / VOXEL_MM
        around = ndimage.gaussian_filter(self.image * core, sigma) / np.maximum(ndimage.gaussian_filter(core, sigma), 1e-6)
        low, median, high = np.percentile((self.image / np.maximum(around, 1e-6))[self.core], (5, 50, 95))
        return float((low + high - 2 * median) / (high - low)) if high - low > LEAST_SPREAD else 0.0

    @property
    def lesion_brightness(self) -> float:
        """Return the median of all lesions divided by the upper quartile within 12 mm of them; 0 if either is missing.

        Chronic infarcts are darker than white matter in T1: in 42 synthetic T1 scans the ratio was at most 0.8. In T2 and
        (except for cavities) in FLAIR they are brighter than their surroundings. Fresh blood and masks on fat can also raise
        the ratio.
        """
        lesion = self.masks.max(axis=0)
        inside = lesion >= min(0.5, 0.9 * float(lesion.max()))
        rim = ndimage.binary_dilation(inside, iterations=round(RIM_MM / VOXEL_MM)) & ~self.near_lesion & self.head
        if not lesion.any() or not rim.any():
            return 0.0
        return float(np.median(self.image[inside]) / max(np.percentile(self.image[rim], 75), 1e-6))


def make_thumbnail(image: MetaTensor, masks: Sequence[torch.Tensor], scale: tuple[float, float]) -> Thumbnail:
    """Return the thumbnail of a T1 scan and its 0/1 masks, all `(1, X, Y, Z)` on one grid.

    Args:
        image: T1 scan.
        masks: Masks, the main mask first.
        scale: Intensities of air and tissue, see `tissue_scale`.
    """
    air, tissue = scale
    scaled = ((image - air) / (tissue - air)).clamp(0, BRIGHTEST)
    plain = torch.cat([x.as_subclass(torch.Tensor).float() for x in (scaled, *masks)])
    turned: Any = Orientation(axcodes="RAS", labels=None)(MetaTensor(plain, affine=image.affine))
    edges_mm = turned.affine[:3, :3].norm(dim=0).tolist()
    size = [max(1, round(n * edge_mm / VOXEL_MM)) for n, edge_mm in zip(turned.shape[1:], edges_mm, strict=True)]
    # Each new voxel is the mean of the voxels that it covers, so small lesions are not lost.
    small = F.interpolate(torch.as_tensor(turned)[None], size=size, mode="area")[0].numpy()
    return Thumbnail(small[0], small[1:])
