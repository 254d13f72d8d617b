"""Loading of scans: selection of the reader, and refusal of files that are damaged or not a single 3D volume."""

import logging
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection, PathLike
from monai.data import ImageReader, ITKReader, MetaTensor, NibabelReader
from monai.transforms import EnsureChannelFirst, MapTransform
from monai.transforms.io.array import switch_endianness
from monai.utils import ImageMetaKey

from strokelesion.networks import UserError
from strokelesion.transforms.content import named_by_content, require_content
from strokelesion.transforms.conversion import DicomImage, convert_series
from strokelesion.transforms.headers import check_grid, check_itk_file, check_nibabel_file
from strokelesion.transforms.sample_error import SampleError

NIBABEL_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh", ".hdr", ".img")
# Paths of links and conversions that the user never sees.
TEMPORARY = r"[^\s'\"]*/(?:scan|series)_\w{8}/[^\s'\"]*"
logger = logging.getLogger(__name__)


class LoadScand(MapTransform):
    """Load a scan: NIfTI, Analyze and FreeSurfer's with nibabel, DICOM with dcm2niix, other formats with ITK.

    Args:
        keys: Path or `DicomImage`; replaced by a volume `(1, X, Y, Z)` with affine (RAS, mm).
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


def load_volume(source: PathLike | DicomImage, name: str = "", dtype: type = np.float32) -> MetaTensor:
    """Load a file, or an image of a DICOM series, as one volume `(1, X, Y, Z)` with affine (RAS, mm).

    Args:
        source: Path, or an image of a series.
        name: Name in messages and results; the path by default.
        dtype: Type of the values.

    Raises:
        SampleError: If the source cannot be read, is damaged (see the checks of `headers`), or has several volumes; a fourth
            axis of length 1 is allowed.
    """
    name = name or (source.folders[0] if isinstance(source, DicomImage) else str(source))
    try:
        loaded = read_series(source, dtype) if isinstance(source, DicomImage) else read(str(source), dtype)
    except SampleError:
        raise
    except PermissionError:
        raise SampleError(name, "may not be read: permission denied", "Let yourself read it, or move it away.") from None
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".")
        reason = re.sub(TEMPORARY, name, reason)
        raise SampleError(
            name, f"cannot be read: {reason}", "Get the file again from where it came, or move it away."
        ) from None
    if not isinstance(source, DicomImage) and is_analyze(str(source)):
        logger.warning("%s is in the format Analyze, which does not say where left is: taken to be where x is large", name)
    volume: Any = EnsureChannelFirst(channel_dim="no_channel")(one_volume(loaded, name))
    volume.meta[ImageMetaKey.FILENAME_OR_OBJ] = name
    return MetaTensor(volume)


def read_series(source: DicomImage, dtype: type) -> MetaTensor:
    """Return an image of a DICOM series."""
    if source.objection:
        raise UserError(source.objection)
    with convert_series(source.files) as converted:
        paths = [str(image.path) for image in converted.images if image.suffix == source.suffix]
        if not paths:
            raise UserError("its files have changed since they were listed")
        return read(paths[0], dtype)


def read(path: str, dtype: type) -> MetaTensor:
    """Return the image in a file, after a check of its header."""
    require_content(Path(path))
    open(path, "rb").close()  # the readers do not distinguish damaged from forbidden files
    if not path.lower().endswith(NIBABEL_SUFFIXES):
        check_itk_file(path)
        # ITK reads directly into floating-point numbers: its Python wrapping lacks signed 8-bit and some 64-bit images.
        reader = ITKReader(pixel_type=itk.D if dtype == np.float64 else itk.F)
        read_by_itk = read_with(reader, path, dtype)
        check_grid(tuple(read_by_itk.shape[:3]), read_by_itk.affine.numpy())
        return read_by_itk
    with named_by_content(path) as named:
        affine = torch.from_numpy(check_nibabel_file(named))
        loaded = read_with(NibabelReader(), named, dtype)
    loaded.affine = loaded.meta["original_affine"] = affine
    return loaded


def read_with(reader: ImageReader, path: str, dtype: type) -> MetaTensor:
    """Return the image that one reader of MONAI reads; `LoadImage` would also try all others and hide the error of this one."""
    values, meta = reader.get_data(reader.read(path))
    # Torch takes no big-endian numbers.
    meta = switch_endianness(meta, "<")  # type: ignore[no-untyped-call]
    read_by_it: Any = MetaTensor.ensure_torch_and_prune_meta(values.astype(dtype), meta)
    return MetaTensor(read_by_it)


def is_analyze(path: str) -> bool:
    """Return whether a file is part of an Analyze pair, which has no orientation; NIfTI pairs have one."""
    return path.lower().endswith((".hdr", ".img")) and not isinstance(nib.load(path), nib.Nifti1Pair)


def one_volume(image: MetaTensor, name: str) -> MetaTensor:
    """Return an image without axes of length 1 after the third; refuse one with several volumes."""
    shape = tuple(image.shape)
    if len(shape) < 3 or 0 in shape or any(size != 1 for size in shape[3:]):
        raise SampleError(
            name, f"has the shape {shape}; expected one 3D volume", "Choose one, or check that this is a T1 scan."
        )
    volume: Any = image.reshape(shape[:3]) if len(shape) > 3 else image
    return MetaTensor(torch.as_tensor(volume), meta=image.meta)
