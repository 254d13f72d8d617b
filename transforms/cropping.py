"""Crop a scan to the network's field of view: the tissue of the head, or the brain with a margin."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.transforms import CropForegroundd

from strokelesion.transforms.intensity import is_tissue


class CropToTissued(CropForegroundd):
    """Crop a scaled scan, and volumes on its grid, to its tissue, see `is_tissue`.

    Args:
        keys: Volumes `(C, X, Y, Z)`; missing keys are skipped.
        source_key: Scaled scan.
    """

    version = 1

    def __init__(self, keys: Sequence[str], source_key: str) -> None:
        super().__init__(keys, source_key, select_fn=is_tissue, allow_smaller=True, allow_missing_keys=True)


class CropToBraind(CropForegroundd):
    """Crop volumes to the brain and a margin around it.

    Args:
        keys: Volumes `(C, X, Y, Z)`; missing keys are skipped.
        source_key: Brain mask `(1, X, Y, Z)` with its affine.
        margin_mm: Margin on each side.
    """

    version = 1

    def __init__(self, keys: Sequence[str], source_key: str, margin_mm: float) -> None:
        super().__init__(keys, source_key, allow_smaller=True, allow_missing_keys=True)
        self.margin_mm = margin_mm

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Return the sample with its volumes cropped."""
        edges_mm = data[self.source_key].pixdim.tolist()
        self.cropper.margin = [round(self.margin_mm / edge_mm) for edge_mm in edges_mm]
        cropped: dict[Hashable, Any] = super().__call__(data, lazy)
        return cropped
