"""Change some voxels of a scan and keep all others as they are stored, with the data type and the scale of its file."""

from typing import Any

import nibabel as nib
import numpy as np
from monai.config import PathLike
from monai.data import MetaTensor
from numpy.typing import NDArray

from strokelesion.transforms.content import named_by_content
from strokelesion.transforms.conversion import DicomImage
from strokelesion.transforms.headers import mask_header, read_nifti_header


def change_voxels(source: PathLike | DicomImage, scan: MetaTensor, changed: MetaTensor) -> nib.Nifti1Image:
    """Return a scan as NIfTI where voxels with another value than in the scan are changed.

    A NIfTI file keeps data type, slope and intercept, so that unchanged voxels keep their stored numbers. Other formats become
    16-bit integers if all values of the scan are whole numbers in their range, and single precision if not.

    Args:
        source: File of the scan, or its image of a DICOM series.
        scan: Scan `(1, X, Y, Z)` as it was loaded from the source.
        changed: The same scan with changed values `(1, X, Y, Z)`.
    """
    header = read_nifti_header(source)
    before, after = (one.as_tensor()[0].numpy(force=True) for one in (scan, changed))
    stored, scale = as_whole_numbers(before) if header is None else read_stored(source, before.shape)
    places = mask_header(header, scan.affine.numpy())
    is_changed = before != after
    stored[is_changed] = as_stored(after[is_changed], stored.dtype, scale)
    image = nib.Nifti1Image(stored, places.get_best_affine(), places, dtype=stored.dtype)
    if scale != (1.0, 0.0):
        image.header.set_slope_inter(*scale)
    return image


def read_stored(source: Any, shape: tuple[int, ...]) -> tuple[NDArray[Any], tuple[float, float]]:
    """Return the stored numbers of a NIfTI file `(X, Y, Z)` in the byte order of this machine, and slope and intercept."""
    with named_by_content(str(source)) as named:
        image: Any = nib.load(named)
        stored = np.array(image.dataobj.get_unscaled()).reshape(shape)
        scale = float(image.dataobj.slope), float(image.dataobj.inter)
    return stored.astype(stored.dtype.newbyteorder("=")), scale


def as_whole_numbers(values: NDArray[Any]) -> tuple[NDArray[Any], tuple[float, float]]:
    """Return values as 16-bit integers if that changes none, else in single precision; and the scale of stored numbers."""
    limits = np.iinfo(np.int16)
    is_whole = np.isfinite(values).all() and (values == np.rint(values)).all()
    fits = is_whole and limits.min <= values.min() and values.max() <= limits.max
    return values.astype(np.int16 if fits else np.float32), (1.0, 0.0)


def as_stored(values: NDArray[Any], dtype: np.dtype[Any], scale: tuple[float, float]) -> NDArray[Any]:
    """Return values as numbers of a type, before slope and intercept: rounded and cut to the range of an integer type."""
    numbers = (values.astype(np.float64) - scale[1]) / scale[0]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        numbers = np.rint(numbers).clip(limits.min, limits.max)
    return numbers.astype(dtype)
