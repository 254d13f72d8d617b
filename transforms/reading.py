"""Reading of scans as single 3D volumes, after a check of the header; damaged files are refused with a clear message.

A damaged header may promise 30,000^3 voxels, complex numbers, or more bytes than its file can hold. A gzip stream with a wrong
checksum may still unpack. Such files are refused before memory is allocated for their voxels.
"""

import gzip
import logging
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from monai.config import PathLike
from monai.data import ImageReader, ITKReader, MetaTensor, NibabelReader
from monai.transforms import EnsureChannelFirst, MapTransform
from monai.transforms.io.array import switch_endianness
from monai.utils import ImageMetaKey
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from strokelesion.networks import UserError
from strokelesion.transforms.content import named_by_content, require_content
from strokelesion.transforms.conversion import DicomImage, convert_series
from strokelesion.transforms.geometry import voxel_ml
from strokelesion.transforms.sample_error import SampleError

NIBABEL_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh", ".hdr", ".img")
# Numbers of axes of the images that ITK reads in Python.
ITK_AXES = (2, 3, 4)
# A head of 200 mm at 0.2 mm, finer than any scanner; 4 GiB in single precision.
MOST_VOXELS = 2**30
# Largest compression ratio of zlib, see https://zlib.net/zlib_tech.html.
DEFLATE_RATIO = 1032
# A file may hold this much more than its voxels: tags at the end of .mgz, extensions.
SLACK_BYTES = 2**20
CHUNK_BYTES = 2**20
# Allowed edges of voxels. In ATLAS R3.0 they run from 0.25 to 6.2 mm. Beyond the limits, the unit or the header is wrong.
EDGES_MM = (0.1, 10.0)
UNITS_MM = {"meter": 1000.0, "micron": 0.001}
# Relative difference between an affine and the voxel sizes in the same header, for rounding.
EDGE_TOLERANCE = 0.01
MOST_LITERS = 250.0  # a generous limit: 500 mm along each axis are 125 liters
# Least volume of a voxel as a share of a box with the same edges. Below this, the axes lie in one plane.
LEAST_SHEAR = 0.01
# Fields of MetaImage and NRRD headers that name the file with the voxels.
_NAMED = re.compile(rb"^(?:data ?file\s*:|ElementDataFile\s*[=:])([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
# Paths of links and conversions that the user never sees.
TEMPORARY = r"[^\s'\"]*/(?:scan|series)_\w{8}/[^\s'\"]*"
logger = logging.getLogger(__name__)


class LoadScand(MapTransform):
    """Load a scan: NIfTI, Analyze and FreeSurfer's with nibabel, DICOM with dcm2niix, other formats with ITK.

    A series has a `name` in the sample, a path; results are named after it.

    Args:
        keys: Path or `DicomImage`; replaced by a volume `(1, X, Y, Z)` with affine (RAS, mm).
        allow_missing_keys: Whether to skip scans that are missing.

    Raises:
        SampleError: If the scan is damaged or not a single 3D volume, see `load_volume`.
    """

    version = 1

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the scan instead of its path."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = load_volume(sample[key], str(sample.get("name") or ""))
        return sample


def load_volume(source: PathLike | DicomImage, name: str = "", dtype: type = np.float32) -> MetaTensor:
    """Load a file, or an image of a DICOM series, as one volume `(1, X, Y, Z)` with affine (RAS, mm).

    Args:
        source: Path, or an image of a series.
        name: Name in messages and results; the path by default.
        dtype: Type of the values.

    Raises:
        SampleError: If it cannot be read, is damaged or has several volumes; a fourth axis of length 1 is allowed.
    """
    name = name or (source.folders[0] if isinstance(source, DicomImage) else str(source))
    loaded = read_named(source, name, dtype)
    if not isinstance(source, DicomImage) and is_analyze(str(source)):
        logger.warning("%s is in the format Analyze, which does not say where left is: taken to be where x is large", name)
    volume: Any = EnsureChannelFirst(channel_dim="no_channel")(one_volume(loaded, name))
    volume.meta[ImageMetaKey.FILENAME_OR_OBJ] = name
    return MetaTensor(volume)


def read_named(source: PathLike | DicomImage, name: str, dtype: type = np.float32) -> MetaTensor:
    """Return an image with all its axes `(X, Y, Z, …)`; errors and results name it as given.

    Raises:
        SampleError: If the source cannot be read or is damaged.
    """
    try:
        loaded = read_series(source, dtype) if isinstance(source, DicomImage) else read(str(source), dtype)
    except SampleError:
        raise
    except PermissionError:
        raise SampleError(name, "may not be read: permission denied", "Let yourself read it, or move it away.") from None
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".")
        what = f"cannot be read: {re.sub(TEMPORARY, name, reason)}"
        raise SampleError(name, what, "Get the file again from where it came, or move it away.") from None
    loaded.meta[ImageMetaKey.FILENAME_OR_OBJ] = name
    return loaded


def read_series(source: DicomImage, dtype: type) -> MetaTensor:
    """Return an image of a DICOM series."""
    if source.objection:
        raise UserError(source.objection)
    with convert_series(source.files, again=source.suffix != "") as converted:
        paths = [str(image.path) for image in converted.images if image.suffix == source.suffix]
        if not paths:
            raise UserError("its files have changed since they were listed")
        return read(paths[0], dtype)


def read(path: str, dtype: type) -> MetaTensor:
    """Return the image in a file, after a check of its header."""
    require_content(Path(path))
    open(path, "rb").close()  # the readers do not distinguish damaged from forbidden files
    if not path.lower().endswith(NIBABEL_SUFFIXES):
        return read_by_itk(path, dtype)
    with named_by_content(path) as named:
        affine = torch.from_numpy(check_nibabel_file(named))
        loaded = read_with(NibabelReader(), named, dtype)
    loaded.affine = loaded.meta["original_affine"] = affine
    return loaded


def read_by_itk(path: str, dtype: type) -> MetaTensor:
    """Return the image in a file of a format that ITK reads, after a check of its header."""
    import itk  # takes seconds, and most scans need none of it

    check_itk_file(path)
    # ITK reads directly into floating-point numbers: its Python wrapping lacks signed 8-bit and some 64-bit images.
    loaded = read_with(ITKReader(pixel_type=itk.D if dtype == np.float64 else itk.F), path, dtype)
    check_grid(tuple(loaded.shape[:3]), loaded.affine.numpy())
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


# The checks below raise UserError with the problem and the allowed values; errors of nibabel, ITK, gzip and zlib pass through.


class Promise(NamedTuple):
    """Content that a header promises: shape, bytes per voxel, bytes before the first voxel, and the file, if known."""

    shape: tuple[int, ...]
    voxel_bytes: int
    offset_bytes: int
    file: Path | None

    @property
    def data_bytes(self) -> int:
        """Return the bytes of the unpacked file up to the last voxel."""
        return self.offset_bytes + prod(self.shape) * self.voxel_bytes


def check_nibabel_file(path: str) -> NDArray[np.float64]:
    """Refuse a file that is too large, truncated, damaged or not of real numbers; return its affine `(4, 4)`."""
    image: Any = nib.load(path)
    kind = image.get_data_dtype()
    if kind.kind not in "iuf":
        raise UserError(f"its voxels are of the type {kind}; expected one number each. Convert it to a magnitude image")
    file = Path(image.file_map["image"].filename)
    promise = Promise(tuple(image.shape), kind.itemsize, int(image.dataobj.offset), file)
    is_packed = file.suffix.lower() in (".gz", ".mgz")
    check_size(promise, DEFLATE_RATIO if is_packed else 1)
    if is_packed:
        check_stream(file, promise.data_bytes)
    edges_mm = np.array(image.header.get_zooms()[:3])
    unit = image.header.get_xyzt_units()[0] if isinstance(image.header, nib.Nifti1Header) else "mm"
    is_in_mm = ((EDGES_MM[0] <= edges_mm) & (edges_mm <= EDGES_MM[1])).all()  # whatever the unit says
    scale = 1.0 if is_in_mm else UNITS_MM.get(unit, 1.0)
    affine: NDArray[np.float64] = np.diag([scale, scale, scale, 1.0]) @ image.affine
    check_grid(image.shape[:3], affine)
    check_edges(affine, (scale * edges_mm).tolist())
    return affine


def check_itk_file(path: str) -> None:
    """Refuse a file that ITK cannot read or that needs too much memory."""
    import itk

    io = itk.ImageIOFactory.CreateImageIO(path, itk.CommonEnums.IOFileMode_ReadMode)
    if io is None:
        raise UserError("it is in no format that is known here; expected NIfTI, MetaImage, NRRD, FreeSurfer's or DICOM")
    io.SetFileName(path)
    io.ReadImageInformation()
    if io.GetNumberOfComponents() != 1:
        raise UserError(
            f"its voxels have {io.GetNumberOfComponents()} components; expected one number each. Export a segmentation as a "
            "labelmap"
        )
    shape = tuple(int(io.GetDimensions(axis)) for axis in range(io.GetNumberOfDimensions()))
    if len(shape) not in ITK_AXES:  # ITK would load the whole file before it refuses it
        raise UserError(f"it has {len(shape)} axes; expected {ITK_AXES[0]} to {ITK_AXES[-1]}. Convert it to one 3D volume")
    check_size(Promise(shape, int(io.GetComponentSize()), 0, voxel_file(Path(path))), DEFLATE_RATIO)


def voxel_file(path: Path) -> Path | None:
    """Return the file that holds the voxels of a MetaImage or NRRD header; None for other formats (unknown compression).

    Only a `.mhd` or `.nhdr` may name a file, and only one in its folder. Other headers could make the reader load any file of
    the computer as an image.
    """
    kind = path.suffix.lower()
    if kind not in (".mha", ".mhd", ".nrrd", ".nhdr"):
        return None
    with path.open("rb") as file:
        found = _NAMED.search(file.read(SLACK_BYTES))
    named = found[1].decode(errors="replace").strip() if found else "LOCAL"
    if named == "LOCAL":
        return path
    if kind not in (".mhd", ".nhdr") or named != Path(named).name or not (beside := path.with_name(named)).is_file():
        raise UserError(f"its header says that its voxels are in {named!r}; allowed is a file beside a .mhd or .nhdr")
    return beside


def check_size(promise: Promise, ratio: int) -> None:
    """Refuse a header with no voxels, too many voxels, or more bytes than its file can hold at a compression ratio."""
    if not 0 < prod(promise.shape) <= MOST_VOXELS:
        raise UserError(
            f"its header promises {' x '.join(map(str, promise.shape))} voxels; allowed are 1 to {MOST_VOXELS}. The header is "
            "damaged, or this is no scan of a head"
        )
    if promise.file is not None and promise.data_bytes > ratio * (held := promise.file.stat().st_size):
        raise UserError(
            f"its header promises {promise.data_bytes} bytes, more than can be in a file of {held}: it was cut short, or the "
            "header is damaged"
        )


def check_stream(path: Path, data_bytes: int) -> None:
    """Unpack a gzip file without keeping it, to verify the checksum at its end; readers stop before it, at the last voxel."""
    unpacked = 0
    with gzip.open(path) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            if (unpacked := unpacked + len(chunk)) > data_bytes + SLACK_BYTES:
                raise UserError(f"it holds more than the {data_bytes} bytes that its header promises: the header is damaged")


def check_edges(affine: NDArray[np.float64], edges_mm: Sequence[float]) -> None:
    """Refuse an affine that disagrees with the voxel sizes in the header, because volumes would be unreliable."""
    of_affine_mm = voxel_sizes(affine)[: len(edges_mm)]
    if not np.allclose(of_affine_mm, edges_mm, rtol=EDGE_TOLERANCE, atol=0):
        raise UserError(
            f"its voxels have edges of {in_words(of_affine_mm)} mm by the affine and of {in_words(edges_mm)} mm by the voxel "
            "sizes beside it; expected the same. Correct the header"
        )


def in_words(edges_mm: Iterable[float]) -> str:
    """Return voxel edges as text."""
    return " x ".join(f"{edge:.4g}" for edge in edges_mm)


def check_grid(shape: Sequence[int], affine: NDArray[np.float64]) -> None:
    """Refuse a grid `(X, Y, Z)` that is impossible for a head scan; later steps would fill the memory or find nothing."""
    edges_mm = voxel_sizes(affine)
    if not np.isfinite(affine).all() or not (EDGES_MM[0] <= edges_mm).all() or not (edges_mm <= EDGES_MM[1]).all():
        raise UserError(
            f"its voxels have edges of {in_words(edges_mm)} mm; allowed are {EDGES_MM[0]:g} to "
            f"{EDGES_MM[1]:g} mm. The header is damaged, or its unit is not mm"
        )
    if 1000 * voxel_ml(affine) < LEAST_SHEAR * edges_mm.prod():
        raise UserError("the axes of its affine lie in one plane; expected three axes at about right angles")
    if (liters := voxel_ml(affine) * prod(shape) / 1000) > MOST_LITERS:
        raise UserError(f"it is {liters:.0f} liters large; allowed are up to {MOST_LITERS:g}. The voxel size is wrong")
