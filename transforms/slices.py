"""From a whole scan to what a 2D network sees: the field of view is cropped, turned to a plane and cut into slices."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import CropForegroundd, MapTransform, Orientationd, ResizeWithPadOrCrop

from strokelesion.networks import UserError
from strokelesion.networks.planes import AXIAL, PLANES
from strokelesion.transforms.intensity import is_tissue

SELECTIONS = ("lesion", "brain", "all")
# A slice with less tissue than this share of the window shows the top of the skull, not brain.
LEAST_TISSUE_SHARE = 0.02


def select_slices(image: torch.Tensor, label: torch.Tensor, select: str, brain: torch.Tensor | None = None) -> torch.Tensor:
    """Return which of D slices `(1, H, W, D)` to keep: those with lesion, those with brain or lesion, or all.

    Without a brain mask, slices with enough tissue count as slices with brain.
    """
    has_lesion = (label > 0).flatten(0, 2).any(dim=0)
    if select == "lesion":
        return has_lesion
    if select == "all":
        return torch.ones_like(has_lesion)
    if brain is not None:
        return has_lesion | (brain > 0).flatten(0, 2).any(dim=0)
    return has_lesion | (is_tissue(image).flatten(0, 2).float().mean(dim=0) >= LEAST_TISSUE_SHARE)


def extent_px(extent_mm: Sequence[float] | None, spacing_mm: Sequence[float]) -> list[int] | None:
    """Return an extent of slices in voxels, from the spacing of the first axes; None if there is no extent."""
    if extent_mm is None:
        return None
    return [max(1, round(length_mm / edge_mm)) for length_mm, edge_mm in zip(extent_mm, spacing_mm, strict=False)]


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


class TurnToPlaned(MapTransform):
    """Turn volumes so that slices along their last axis lie in the `plane` of the sample, one of `PLANES`; axial by default.

    Args:
        keys: Volumes `(C, X, Y, Z)` in RAS with their affines; missing keys are skipped.
    """

    version = 1

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.turns = {
            plane: Orientationd(keys, axcodes="".join("RAS"[axis] for axis in axes), labels=None, allow_missing_keys=True)
            for plane, axes in PLANES.items()
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its volumes turned."""
        turned: dict[Hashable, Any] = self.turns[data.get("plane", AXIAL)](data)
        return turned


class ExtractSlicesd(MapTransform):
    """Replace a volume and its label map by their slices along the last axis, cropped or padded about the center.

    Args:
        keys: Image and label map, both `(1, X, Y, Z)`.
        slice_size: Height and width of the slices in voxels; for axial slices, left-right and posterior-anterior.
        select: Slices to keep: `lesion` for slices with lesion (as in the Keras study), `brain` for slices with brain or
            lesion, `all` for every slice. In samples without a mask `brain` `(1, X, Y, Z)`, skull and brain are not
            distinguished, and slices through the neck count too.

    Raises:
        UserError: If `select` is unknown, or if lesion lies outside the window: the network would learn from such a slice
            that there is no lesion.
    """

    version = 1

    def __init__(self, keys: KeysCollection, slice_size: Sequence[int], select: str = "lesion") -> None:
        super().__init__(keys)
        if len(self.keys) != 2:
            raise UserError(f"got keys {self.keys}; expected two: the image's and the label map's.")
        if select not in SELECTIONS:
            raise UserError(f"got slices {select!r}; allowed are {', '.join(SELECTIONS)}.")
        self.select = select
        self.fit = ResizeWithPadOrCrop(spatial_size=(*slice_size, -1))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with image `(D, 1, H, W)` and label `(D, 1, H, W)`."""
        sample = dict(data)
        image_key, label_key = self.keys
        lesion_voxels = int((sample[label_key] > 0).sum())
        image, label = (torch.as_tensor(self.fit(sample[key])) for key in self.keys)
        if lost := lesion_voxels - int((label > 0).sum()):
            raise UserError(
                f"{lost} of {lesion_voxels} lesion voxels lie outside the {image.shape[1]}x{image.shape[2]} window; "
                "expected all inside. Choose a larger --slice_mm."
            )
        kept = select_slices(image, label, self.select, sample.get("brain"))
        sample[image_key], sample[label_key] = (x[..., kept].permute(3, 0, 1, 2) for x in (image, label))
        return sample
