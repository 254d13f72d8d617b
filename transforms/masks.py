"""From the mask files of a scan to one label map {0 background, 1 main lesion, 2 sub-lesion}.

The masks of ATLAS R1.x were exported through a 32-bit integer scale: they load as floats k * (2**32 - 1) / 2**32 with k in
{0, 1, 2, 253, 254, 255}. There are three kinds of files: {0, 0.99999}, {0, 254.99999} and 0/255 files with rounding noise
k = 1, 2, 253, 254. An integer cast turns 0.99999 into 0 and loses the lesion; `> 0` keeps the noise. The rule
`mask > max(mask) / 2` is right for all of them.
"""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey, ensure_tuple

from strokelesion.networks import UserError
from strokelesion.transforms.components import largest_component
from strokelesion.transforms.geometry import match_grid
from strokelesion.transforms.reading import load_volume
from strokelesion.transforms.sample_error import SampleError, source_of

MAIN, SUB = 1, 2
# Values that differ from both 0 and 1 by more than this share of the maximum are not rounding noise (k = 2 of 255 is 0.008).
ROUNDING_TOLERANCE = 0.02


def binarize_mask(mask: torch.Tensor, allow_empty: bool = False, allow_gray: bool = False) -> torch.Tensor:
    """Return one mask as 0/1 bytes of the same shape, by `mask > max(mask) / 2`.

    Args:
        mask: Mask with values of any scale and background 0.
        allow_empty: Whether to accept a mask without lesion.
        allow_gray: Whether to accept values between background and lesion (an interpolated mask) and cut them at one half.

    Raises:
        SampleError: If values are negative, NaN or infinite; and, unless allowed, if the mask is empty or not two-valued
            after rounding.
    """
    top = float(mask.max())
    if not torch.isfinite(mask).all() or float(mask.min()) < 0:
        raise SampleError(
            source_of(mask),
            "has values below zero, NaN or infinite; expected 0 and one positive value",
            "Export the mask again.",
        )
    if top == 0:
        if allow_empty:
            return torch.zeros_like(mask, dtype=torch.uint8)
        raise SampleError(
            source_of(mask),
            "is zero everywhere; expected a lesion",
            "Remove the scan from the data set, or accept scans without lesion with --allow_empty true.",
        )
    share = mask / top
    gray = int(((share - share.round()).abs() > ROUNDING_TOLERANCE).sum())
    if gray and not allow_gray:
        raise SampleError(
            source_of(mask),
            f"is not two-valued: {gray} voxels lie between 0 and its maximum {top:g}; expected one lesion value",
            "Split a label map into masks, or cut an interpolated mask at one half with --allow_gray true.",
        )
    return (share > 0.5).to(torch.uint8)


class LoadMasksd(MapTransform):
    """Load one or several mask files of a key as `(C, X, Y, Z)` with affine, one channel per file.

    Raises:
        SampleError: If a file is not a single 3D volume, see `load_volume`, or if the files of a key have different grids.
    """

    version = 1

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its masks instead of their paths."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            masks = [load_volume(path) for path in ensure_tuple(sample[key])]
            masks = [masks[0], *(match_grid(masks[0], mask) for mask in masks[1:])]
            sample[key] = MetaTensor(torch.cat([torch.as_tensor(mask) for mask in masks]), meta=masks[0].meta)
            sample[key].meta[ImageMetaKey.FILENAME_OR_OBJ] = ", ".join(map(source_of, masks))
        return sample


class BinarizeMasksd(MapTransform):
    """Set each channel of each mask to 0 or 1 by `binarize_mask`; channels may have different scales."""

    version = 1

    def __init__(
        self,
        keys: KeysCollection,
        allow_empty: bool = False,
        allow_gray: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.allow_empty = allow_empty
        self.allow_gray = allow_gray

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its masks `(C, X, Y, Z)` as 0/1 bytes."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            channels = [binarize_mask(channel, self.allow_empty, self.allow_gray) for channel in sample[key]]
            sample[key] = torch.stack(channels)
        return sample


class DivideByClassesd(MapTransform):
    """Divide a binary mask of all lesions into `main_mask` and `sub_masks` by a map of the classes, if a sample has one.

    A voxel of the mask is sub if the map has a 2 there, and main otherwise. Voxels of the map outside the mask do not count.

    Args:
        keys: Path of the map, replaced by nothing; samples need not have it.

    Raises:
        SampleError: The map cannot be read, or is not on the grid of the mask.
    """

    version = 1

    def __init__(self, keys: KeysCollection = "classes") -> None:
        super().__init__(keys, allow_missing_keys=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its masks `(1, X, Y, Z)` as bytes."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            mask = sample["main_mask"]
            is_sub = match_grid(mask, load_volume(sample.pop(key))).as_subclass(torch.Tensor) == SUB
            sample["main_mask"], sample["sub_masks"] = mask * ~is_sub, mask * is_sub
        return sample


class FuseSubmasksd(MapTransform):
    """Fuse any number of mask channels into their union: `(C, X, Y, Z)` to `(1, X, Y, Z)`."""

    version = 1

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with each mask fused."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = sample[key].amax(dim=0, keepdim=True)
        return sample


class LabelLesionsd(MapTransform):
    """Write the label map {0 background, 1 main, 2 sub} of `image` and drop its masks; all have one grid, see `match_grid`.

    A voxel in both masks is main, because the main mask is traced first and the sub-masks add to it. For releases with one
    mask for all lesions, `divide` can label the largest 26-connected component main and the rest sub. This definition comes
    from this project, not from the data set.

    Args:
        keys: Main mask `(1, X, Y, Z)` and fused sub-mask, which samples need not have.
        label_key: Key of the resulting label map.
        divide: Source of the classes: `masks` for the mask files, `components` to divide a main mask without sub-mask.

    Raises:
        UserError: If `divide` is unknown, or if a mask has another grid than its scan.
    """

    version = 1

    def __init__(
        self,
        keys: KeysCollection = ("main_mask", "sub_masks"),
        label_key: str = "label",
        divide: str = "masks",
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 2:
            raise UserError(f"got keys {self.keys}; expected two: the main mask's and the sub-masks'.")
        if divide not in ("masks", "components"):
            raise UserError(f"got divide {divide!r}; allowed are masks, components.")
        self.label_key = label_key
        self.divide = divide

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its label map `(1, X, Y, Z)` as bytes."""
        sample = dict(data)
        main_key, sub_key = self.keys
        image, main, sub = sample["image"], sample.pop(main_key), sample.pop(sub_key, None)
        main, sub = match_grid(image, main), None if sub is None else match_grid(image, sub)
        if sub is None and self.divide == "components":
            sample[self.label_key] = divide_components(main)
        else:
            label = main * MAIN
            sample[self.label_key] = label if sub is None else torch.where(main > 0, label, sub * SUB)
        return sample


def divide_components(mask: torch.Tensor) -> torch.Tensor:
    """Return a label map of a 0/1 mask `(1, X, Y, Z)`: the largest 26-connected component is main, all others are sub."""
    largest = torch.as_tensor(largest_component(mask[0] > 0), device=mask.device)[None]
    return torch.where(largest, mask * MAIN, mask * SUB)
