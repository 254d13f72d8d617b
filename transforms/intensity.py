"""One intensity scale for all scanners: air is 0, and the median tissue or the white matter is 1.

T1 scans have no unit; the maxima in ATLAS R3.0 run from 70 to 5.6 million. A scale based on the median tissue does not depend
on the brightest voxels (fat, vessels, artifacts) or on the amount of air around the head. A scale based on the brain also does
not depend on the amount of scalp and neck.
"""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from strokelesion.networks import UserError
from strokelesion.transforms.sample_error import SampleError, source_of

# The robust range, and the share of it below which a voxel is air. Source: Smith, Human Brain Mapping 2002 (BET), section 2.2.
ROBUST_PERCENTILES = (2.0, 98.0)
AIR_SHARE = 0.1
# In the brain, fluid is darker than half the bright tissue. White matter is the upper quartile of all voxels but fluid.
BRIGHT_PERCENTILE = 90.0
FLUID_SHARE = 0.5
WHITE_PERCENTILE = 75.0
# On the scale of this module: lower limit of tissue, and upper limit at which bright fat and vessels are clipped.
TISSUE_LEVEL = 0.1
BRIGHTEST = 3.0


def percentile(values: torch.Tensor, percent: float) -> float:
    """Return a percentile by rank; `torch.quantile` does not accept whole volumes."""
    rank, flat = max(1, round(percent / 100 * values.numel())), values.flatten()
    # On a GPU, kthvalue uses a single block, while sorting uses all of them. On a processor, it takes three times the memory.
    return float(flat.sort().values[rank - 1] if flat.is_cuda else np.partition(flat.numpy(), rank - 1)[rank - 1])


def tissue_scale(image: torch.Tensor) -> tuple[float, float]:
    """Return the intensities of air and of the median tissue.

    1. Take the range of all non-zero voxels from the 2nd to the 98th percentile.
    2. Air is 0 if the background is zero, else the lower end of that range.
    3. Tissue is every voxel that is brighter than air by more than 10 % of the distance from air to the upper end
       (in brain-extracted scans, all of the brain).

    Raises:
        SampleError: If the image has NaN or infinite values or no contrast, or is not a magnitude image.
    """
    if not torch.isfinite(image).all():
        raise SampleError(
            source_of(image, "the image"), "has NaN or infinite values; expected a T1 scan", "Repair or remove the file."
        )
    values = image[image != 0]
    if values.numel() == 0 or float(values.min()) == float(values.max()):
        raise SampleError(source_of(image, "the image"), "is constant; expected a T1 scan", "Remove the file.")
    low, high = (percentile(values, p) for p in ROBUST_PERCENTILES)
    if low < -AIR_SHARE * high:
        raise SampleError(
            source_of(image, "the image"),
            f"has negative intensities (2 % are below {low:.3g}); expected a magnitude image, as scanners make it",
            "Take the scan from before z-scoring or subtraction; a CT is no T1 scan.",
        )
    has_zero_background = values.numel() < 0.9 * image.numel()
    air = 0.0 if has_zero_background else low
    tissue = values[values > air + AIR_SHARE * (high - air)]
    return air, float(tissue.median())


def brain_scale(image: torch.Tensor, brain: torch.Tensor) -> tuple[float, float]:
    """Return the intensities of air and of the brain's white matter.

    1. Leave out fluid: brain voxels darker than halfway from air to the brain's 90th percentile.
    2. Take the 75th percentile of the other brain voxels.

    The median of the brain is less robust. It lies between gray and white matter, where voxels are few, so a chronic infarct
    as dark as fluid shifts it strongly. In two labeled heads, an infarct of 200 ml changed the median by 5 to 14 %, and this
    scale by up to 3 %. Scan and mask are `(C, X, Y, Z)` and `(1, X, Y, Z)`.

    Raises:
        UserError: If the brain is empty or not brighter than air, or if `tissue_scale` refuses the image.
    """
    air, _ = tissue_scale(image)
    values = image[brain.expand_as(image) > 0]
    bright = percentile(values, BRIGHT_PERCENTILE) if values.numel() else air
    if bright <= air:
        raise UserError("the brain mask is empty or as dark as air; expected the brain of this scan. Check the mask.")
    return air, percentile(values[values > air + FLUID_SHARE * (bright - air)], WHITE_PERCENTILE)


class ScaleTissued(MapTransform):
    """Scale a scan to `clip((x - air) / (tissue - air), 0, 3)`, so that air is 0 and `tissue` is 1.

    Args:
        keys: Scans `(C, X, Y, Z)`.
        mask_key: Brain mask `(1, X, Y, Z)` for the scale of `brain_scale`; without it, `tissue_scale` is used.
        allow_missing_keys: Whether to skip scans that are missing.
    """

    version = 1

    def __init__(self, keys: KeysCollection, mask_key: str | None = None, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with each scan scaled."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            image = sample[key]
            air, tissue = tissue_scale(image) if self.mask_key is None else brain_scale(image, sample[self.mask_key])
            sample[key] = ((image - air) / (tissue - air)).clamp(0, BRIGHTEST)
        return sample


def is_tissue(image: torch.Tensor) -> torch.Tensor:
    """Return a mask of the tissue (not air) in a scaled image."""
    return image > TISSUE_LEVEL
