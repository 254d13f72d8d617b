"""Loading of scans: selection of the reader, and refusal of files that are damaged or not a single 3D volume."""

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection, PathLike
from monai.data import ImageReader, ITKReader, MetaTensor, NibabelReader
from monai.transforms import EnsureChannelFirst, LoadImage, MapTransform
from monai.utils import ImageMetaKey, ensure_tuple

from strokelesion.transforms.headers import check_grid, check_itk_file, check_nibabel_file
from strokelesion.transforms.sample_error import SampleError

NIBABEL_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh", ".hdr", ".img")
logger = logging.getLogger(__name__)


class SeriesReader(ITKReader):
    """Read the files of one DICOM series, in the order of its slices, as one volume.

    MONAI's reader expects a folder and warns if it holds several series. It stacks a list of files as channels.
    """

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        """Return the volume as an ITK image."""
        return itk.imread([str(file) for file in ensure_tuple(data)], **{**self.kwargs, **kwargs})


class LoadScand(MapTransform):
    """Load a scan: NIfTI, Analyze and .mgz with nibabel, other formats with ITK, a DICOM series as one volume.

    Args:
        keys: Path, or files of a series in order; replaced by a volume `(1, X, Y, Z)` with affine (RAS, mm).
        name_key: Key of the name of a series, as a path; results are named after it.

    Raises:
        SampleError: If the scan is damaged or not a single 3D volume, see `load_volume`.
    """

    version = 1

    def __init__(self, keys: KeysCollection, name_key: str = "name") -> None:
        super().__init__(keys)
        self.name_key = name_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the scan in place of its path."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = load_volume(sample[key], str(sample.get(self.name_key) or ""))
        return sample


def load_volume(source: PathLike | Sequence[PathLike], name: str = "", dtype: type = np.float32) -> MetaTensor:
    """Load a file, or the files of a DICOM series, as one volume `(1, X, Y, Z)` with affine (RAS, mm).

    Args:
        source: Path, or files of a series in order.
        name: Name in messages and results; the path by default.
        dtype: Type of the values.

    Raises:
        SampleError: If the source cannot be read, is damaged (see the checks of `headers`), or has several volumes; a fourth
            axis of length 1 is allowed.
    """
    name = name or str(ensure_tuple(source)[0])
    try:
        loaded = read(source, dtype)
    except PermissionError:
        raise SampleError(name, "may not be read: permission denied", "Let yourself read it, or move it away.") from None
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".")
        raise SampleError(
            name, f"cannot be read: {reason}", "Get the file again from where it came, or move it away."
        ) from None
    if is_analyze(str(ensure_tuple(source)[0])):
        logger.warning("%s is in the format Analyze, which does not say where left is: taken to be where x is large", name)
    volume: Any = EnsureChannelFirst(channel_dim="no_channel")(one_volume(loaded, name))
    volume.meta[ImageMetaKey.FILENAME_OR_OBJ] = name
    return MetaTensor(volume)


def read(source: PathLike | Sequence[PathLike], dtype: type) -> MetaTensor:
    """Return the image in a file, or in the files of a series, after a check of its header."""
    reader, files = reader_of(source, dtype), [str(file) for file in ensure_tuple(source)]
    for file in files:
        open(file, "rb").close()  # the readers do not distinguish damaged from forbidden files
    if not isinstance(reader, NibabelReader):
        check_itk_file(files[0], len(files))
        read_by_itk: MetaTensor = LoadImage(image_only=True, dtype=dtype)(source, reader=reader)
        check_grid(tuple(read_by_itk.shape[:3]), read_by_itk.affine.numpy())
        return read_by_itk
    affine = torch.from_numpy(check_nibabel_file(files[0]))
    # With the reader in the call, MONAI tries no other reader and reports the error of this one.
    loaded: Any = LoadImage(image_only=True, dtype=dtype)(source, reader=reader)
    loaded.affine = loaded.meta["original_affine"] = affine
    return MetaTensor(loaded)


def is_analyze(path: str) -> bool:
    """Return whether a file is part of an Analyze pair, which has no orientation; NIfTI pairs have one."""
    return path.lower().endswith((".hdr", ".img")) and not isinstance(nib.load(path), nib.Nifti1Pair)


def reader_of(source: PathLike | Sequence[PathLike], dtype: type) -> ImageReader:
    """Return the reader of a file, or of the files of a series.

    ITK reads directly into floating-point numbers, because its Python wrapping lacks signed 8-bit and some 64-bit images.
    """
    pixel_type = itk.D if dtype == np.float64 else itk.F
    if not isinstance(source, str | Path):
        return SeriesReader(pixel_type=pixel_type)
    return NibabelReader() if str(source).lower().endswith(NIBABEL_SUFFIXES) else ITKReader(pixel_type=pixel_type)


def one_volume(image: MetaTensor, name: str) -> MetaTensor:
    """Return an image without axes of length 1 after the third; refuse one with several volumes."""
    shape = tuple(image.shape)
    if len(shape) < 3 or 0 in shape or any(size != 1 for size in shape[3:]):
        raise SampleError(
            name, f"has the shape {shape}; expected one 3D volume", "Choose one, or check that this is a T1 scan."
        )
    volume: Any = image.reshape(shape[:3]) if len(shape) > 3 else image
    return MetaTensor(torch.as_tensor(volume), meta=image.meta)
