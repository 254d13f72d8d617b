"""Input of the checks of the doctor: the loaded files of one scan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from strokelesion.pipeline.doctor.thumbnail import Thumbnail, make_thumbnail
from strokelesion.pipeline.training.slice_store import files_of
from strokelesion.transforms import Recipe
from strokelesion.transforms.geometry import match_grid
from strokelesion.transforms.intensity import tissue_scale
from strokelesion.transforms.masks import binarize_mask
from strokelesion.transforms.reading import load_volume
from strokelesion.transforms.recipe import fingerprint
from strokelesion.transforms.sample_error import SampleError


@dataclass(frozen=True)
class Training:
    """Preparation of scans for training.

    Attributes:
        transform: Transform from a record to training slices.
        allow_empty: Whether training accepts masks without lesion.
        allow_gray: Whether training accepts masks with more than two values.
    """

    transform: Recipe
    allow_empty: bool = False
    allow_gray: bool = False


@dataclass(frozen=True)
class Scan:
    """Files of one scan that can be loaded.

    Attributes:
        item: Record, or one file of an incomplete scan.
        training: Preparation of the scan for training.
        image: T1 `(1, X, Y, Z)`; None if it cannot be loaded.
        masks: Masks `(1, X, Y, Z)` by file, main mask first, in double precision, because 0.9999999998 is 1 in single.
        refusals: Errors of the files that cannot be loaded.
    """

    item: Mapping[str, Any]
    training: Training
    image: MetaTensor | None
    masks: Mapping[str, MetaTensor]
    refusals: Sequence[SampleError]

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Return the intensities of air and tissue.

        Raises:
            SampleError: The image is not a T1 scan.
        """
        assert self.image is not None
        return tissue_scale(self.image)

    @cached_property
    def binarized(self) -> dict[str, torch.Tensor | SampleError]:
        """Return each mask as 0 and 1, or the error of `binarize_mask` if empty and gray masks are not allowed."""
        return {file: _binarize(mask) for file, mask in self.masks.items()}

    @cached_property
    def lesions(self) -> dict[str, torch.Tensor]:
        """Return the masks as 0 and 1 on the grid of the image, for scans that training accepts."""
        assert self.image is not None
        masks = {file: match_grid(self.image, mask) for file, mask in self.masks.items()}
        return {file: binarize_mask(mask, allow_empty=True, allow_gray=True) for file, mask in masks.items()}

    @cached_property
    def thumbnail(self) -> Thumbnail:
        """Return the thumbnail of the scan, for scans that training accepts."""
        assert self.image is not None
        return make_thumbnail(self.image, list(self.lesions.values()), self.scale)

    def hash_voxels(self) -> str:
        """Return a hash of the voxels of the image."""
        return fingerprint(torch.as_tensor(self.image).numpy())


def open_scan(item: Mapping[str, Any], training: Training) -> Scan:
    """Return the loaded files of a scan; errors of other files are in `refusals`."""
    image_file = item.get("image")
    volumes: dict[str, MetaTensor] = {}
    refusals = []
    for file in map(str, files_of(item)):
        try:
            volumes[file] = load_volume(file, dtype=np.float32 if file == image_file else np.float64)
        except SampleError as error:
            refusals.append(error)
    return Scan(item, training, volumes.pop(str(image_file), None), volumes, refusals)


def _binarize(mask: MetaTensor) -> torch.Tensor | SampleError:
    try:
        return binarize_mask(mask)
    except SampleError as error:
        return error
