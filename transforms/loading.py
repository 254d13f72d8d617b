"""Scans from files: the right reader for each format, and what is no single 3D volume is refused."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import itk
import torch
from monai.config import KeysCollection, PathLike
from monai.data import ImageReader, ITKReader, MetaTensor, NibabelReader
from monai.transforms import EnsureChannelFirst, LoadImage, MapTransform
from monai.utils import ImageMetaKey, ensure_tuple

NIBABEL_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")


class SeriesReader(ITKReader):
    """Read the files of one DICOM series, in the order of its slices, as one volume.

    MONAI's reader takes a folder and warns when it holds several series; files it stacks as channels.
    """

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        """Return ITK's image of the volume."""
        return itk.imread([str(file) for file in ensure_tuple(data)], **kwargs)


class LoadScand(MapTransform):
    """Load a scan: NIfTI and FreeSurfer's .mgz with nibabel, all else with ITK, the files of a DICOM series as one volume.

    Args:
        keys: a path, or the files of a series in order; becomes `(1, X, Y, Z)` with affine (RAS, mm).
        name_key: where a sample says what a series is called, as a path; what is written for it is named so.

    Raises:
        ValueError: when it is no single 3D volume; a fourth axis of length 1 is fine.
    """

    def __init__(self, keys: KeysCollection, name_key: str = "name") -> None:
        super().__init__(keys)
        self.name_key = name_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the scan in place of its path."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            loaded: Any = LoadImage(reader=reader_of(sample[key]), image_only=True)(sample[key])
            name = str(sample.get(self.name_key) or loaded.meta[ImageMetaKey.FILENAME_OR_OBJ])
            sample[key] = EnsureChannelFirst(channel_dim="no_channel")(one_volume(loaded, name))
            sample[key].meta[ImageMetaKey.FILENAME_OR_OBJ] = name
        return sample


def reader_of(source: PathLike | Sequence[PathLike]) -> ImageReader:
    """Return what reads a file, or the files of a series."""
    if not isinstance(source, str | Path):
        return SeriesReader()
    return NibabelReader() if str(source).lower().endswith(NIBABEL_SUFFIXES) else ITKReader()


def one_volume(image: MetaTensor, name: str) -> MetaTensor:
    """Return an image without axes of length 1 after the third; refuse one with several volumes."""
    shape = tuple(image.shape)
    if len(shape) < 3 or any(size != 1 for size in shape[3:]):
        raise ValueError(f"{name} has the shape {shape}; expected one 3D volume. Choose one, or check that this is a T1 scan.")
    volume: Any = image.reshape(shape[:3]) if len(shape) > 3 else image
    return MetaTensor(torch.as_tensor(volume), meta=image.meta)
