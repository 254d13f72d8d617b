"""One intensity scale for all scanners: the median of the tissue becomes 1, air 0.

T1 scans have no unit; the maxima of ATLAS R3.0 run from 70 to 5.6 million. A scale that rests on the median of the
tissue ignores both the brightest voxels (fat, vessels, artifacts) and how much air surrounds the head.
"""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

# The robust range and the share of it below which a voxel is air: Smith, Human Brain Mapping 2002 (BET), section 2.2.
ROBUST_PERCENTILES = (2.0, 98.0)
AIR_SHARE = 0.1
# On the scale of this module: what counts as tissue, and where bright fat and vessels are cut off.
TISSUE_LEVEL = 0.1
BRIGHTEST = 3.0


def percentile(values: torch.Tensor, percent: float) -> float:
    """Return a percentile by sorting; `torch.quantile` refuses whole volumes."""
    rank = max(1, round(percent / 100 * values.numel()))
    return float(values.flatten().kthvalue(rank).values)


def tissue_scale(image: torch.Tensor) -> tuple[float, float]:
    """Return the intensity of air and that of the median tissue.

    1. Take the range of all non-zero voxels from the 2nd to the 98th percentile.
    2. Tissue is what lies more than 10 % of that range above its lower end (the whole of it, in brain-extracted scans).
    3. Air is zero where the background is zero, else the lower end.

    Raises:
        ValueError: when the image has NaN or infinite values, no contrast, or is no magnitude image.
    """
    if not torch.isfinite(image).all():
        raise ValueError("the image has NaN or infinite values; expected a T1 scan. Repair or remove the file.")
    values = image[image != 0]
    if values.numel() == 0 or float(values.min()) == float(values.max()):
        raise ValueError("the image is constant; expected a T1 scan. Remove the file.")
    low, high = (percentile(values, p) for p in ROBUST_PERCENTILES)
    if low < -AIR_SHARE * high:
        raise ValueError(
            f"the image has negative intensities (2 % are below {low:.3g}); expected a magnitude image, as scanners make it. "
            "Take the scan from before z-scoring or subtraction."
        )
    has_zero_background = values.numel() < 0.9 * image.numel()
    air = 0.0 if has_zero_background else low
    tissue = values[values > air + AIR_SHARE * (high - air)]
    return air, float(tissue.median())


class ScaleTissued(MapTransform):
    """Scale a scan to `clip((x - air) / (median tissue - air), 0, 3)`, so that air is 0 and the median tissue 1."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with each image `(C, X, Y, Z)` scaled."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            air, tissue = tissue_scale(sample[key])
            sample[key] = ((sample[key] - air) / (tissue - air)).clamp(0, BRIGHTEST)
        return sample


def is_tissue(image: torch.Tensor) -> torch.Tensor:
    """Return where a scaled image is not air."""
    return image > TISSUE_LEVEL
