"""What the doctor has before it: one scan as far as it can be loaded, and the little that is kept of it for comparison."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from strokelesion.pipeline.cohorts.records import Record
from strokelesion.pipeline.training.slice_store import files_of
from strokelesion.transforms import Recipe
from strokelesion.transforms.intensity import tissue_scale
from strokelesion.transforms.lesions import binarize_mask
from strokelesion.transforms.loading import load_volume
from strokelesion.transforms.portrait import Portrait, asymmetry, portray, right_share
from strokelesion.transforms.sample_error import SampleError


@dataclass(frozen=True)
class Training:
    """What training does to a scan.

    Attributes:
        transform: from a record to the slices that a network learns from.
        allow_empty: whether masks without lesion are taken.
        allow_gray: whether masks with more than two values are.
    """

    transform: Recipe
    allow_empty: bool = False
    allow_gray: bool = False


@dataclass(frozen=True)
class Scan:
    """The files of one scan, as far as they can be loaded.

    Attributes:
        item: a record, or one file of a scan that has not all of its files.
        training: what is to be done with it.
        image: the T1 `(1, X, Y, Z)`.
        masks: by file, the main mask first, `(1, X, Y, Z)`; in double precision, because 0.9999999998 is 1 in single.
        refusals: of the files that could not be loaded.
    """

    item: Mapping[str, Any]
    training: Training
    image: MetaTensor | None
    masks: Mapping[str, MetaTensor]
    refusals: Sequence[SampleError]

    @cached_property
    def scale(self) -> tuple[float, float]:
        """The intensities of air and tissue.

        Raises:
            SampleError: the image is no T1 scan.
        """
        assert self.image is not None
        return tissue_scale(self.image)

    @cached_property
    def binarized(self) -> dict[str, torch.Tensor | SampleError]:
        """Each mask as 0 and 1, or why `binarize_mask` refuses it if nothing is allowed."""
        return {file: _binarized(mask) for file, mask in self.masks.items()}

    @cached_property
    def lesions(self) -> dict[str, torch.Tensor]:
        """The masks as 0 and 1; for masks that training takes."""
        return {
            file: binarize_mask(self.masks[file], allow_empty=True, allow_gray=True) if isinstance(mask, SampleError) else mask
            for file, mask in self.binarized.items()
        }

    @cached_property
    def portrait(self) -> Portrait:
        """The scan at a glance; for scans that training takes."""
        assert self.image is not None
        return portray(self.image, list(self.lesions.values()), self.scale)


@dataclass(frozen=True)
class Sighting:
    """What is kept of a scan until all have been seen: some kilobytes.

    Attributes:
        record: the scan.
        digest: of its voxels.
        right_share: how much of the main lesion is on the right.
        asymmetry: of the image.
    """

    record: Record
    digest: str
    right_share: float
    asymmetry: NDArray[np.float32]


def open_scan(item: Mapping[str, Any], training: Training) -> Scan:
    """Load the files of a scan; what cannot be loaded is among its `refusals`."""
    image_file = item.get("image")
    volumes: dict[str, MetaTensor] = {}
    refusals = []
    for file in map(str, files_of(item)):
        try:
            volumes[file] = load_volume(file, dtype=np.float32 if file == image_file else np.float64)
        except SampleError as error:
            refusals.append(error)
    return Scan(item, training, volumes.pop(str(image_file), None), volumes, refusals)


def sight(scan: Scan, record: Record) -> Sighting:
    """Return what is kept of a scan that training takes."""
    digest = hashlib.blake2b(torch.as_tensor(scan.image).numpy().tobytes(), digest_size=16).hexdigest()
    return Sighting(record, digest, right_share(scan.portrait), asymmetry(scan.portrait))


def _binarized(mask: MetaTensor) -> torch.Tensor | SampleError:
    try:
        return binarize_mask(mask)
    except SampleError as error:
        return error
