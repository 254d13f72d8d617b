"""Checks of a scan's header before memory is allocated for the voxels.

A damaged header may promise 30,000^3 voxels, complex numbers, or more bytes than its file can hold. A gzip stream with a wrong
checksum may still unpack. These functions refuse such files with a clear message before the voxels are read.
"""

import gzip
import re
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import itk
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from strokelesion.networks import UserError

# A head of 200 mm at 0.2 mm, finer than any scanner; 4 GiB in single precision.
MOST_VOXELS = 2**30
# Numbers of axes of the images that ITK reads in Python.
ITK_AXES = (2, 3, 4)
# Largest compression ratio of zlib, see https://zlib.net/zlib_tech.html.
DEFLATE_RATIO = 1032
# A file may hold this much more than its voxels: tags at the end of .mgz, extensions.
SLACK_BYTES = 2**20
CHUNK_BYTES = 2**20
# Allowed edges of voxels. In ATLAS R3.0 they run from 0.25 to 6.2 mm. Beyond the limits, the unit or the header is wrong.
EDGES_MM = (0.1, 10.0)
# A generous limit: 500 mm along each axis are 125 liters.
MOST_LITERS = 250.0
# Relative difference between an affine and the voxel sizes in the same header, for rounding.
EDGE_TOLERANCE = 0.01
# Least volume of a voxel as a share of a box with the same edges. Below this, the axes lie in one plane.
LEAST_SHEAR = 0.01
# Fields of MetaImage and NRRD headers that name the file with the voxels.
_NAMED = re.compile(rb"^(?:data ?file\s*:|ElementDataFile\s*[=:])([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


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
    """Refuse a NIfTI, Analyze or FreeSurfer file that is too large, truncated, damaged or not of real numbers.

    Returns:
        Affine from voxels to mm `(4, 4)`; the sform of NIfTI if there is one. MONAI instead prefers the form that agrees with
        the voxel sizes in the header; scan and mask would then be placed differently.

    Raises:
        UserError: With the problem and the allowed values. Errors of nibabel pass through.
    """
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
    check_grid(tuple(image.shape[:3]), image.affine)
    check_edges(image.affine, image.header.get_zooms()[:3])
    affine: NDArray[np.float64] = image.affine
    return affine


def check_itk_file(path: str) -> None:
    """Refuse a file that ITK cannot read or that needs too much memory.

    Raises:
        UserError: With the problem and the allowed values. Errors of ITK pass through.
    """
    io = itk.ImageIOFactory.CreateImageIO(path, itk.CommonEnums.IOFileMode_ReadMode)
    if io is None:
        raise UserError("it is in no format that is known here; expected NIfTI, MetaImage, NRRD, FreeSurfer's or DICOM")
    io.SetFileName(path)
    io.ReadImageInformation()
    if io.GetNumberOfComponents() != 1:
        raise UserError(f"its voxels have {io.GetNumberOfComponents()} components; expected one number each")
    shape = tuple(int(io.GetDimensions(axis)) for axis in range(io.GetNumberOfDimensions()))
    if len(shape) not in ITK_AXES:  # ITK would load the whole file before it refuses it
        raise UserError(f"it has {len(shape)} axes; expected {ITK_AXES[0]} to {ITK_AXES[-1]}. Convert it to one 3D volume")
    check_size(Promise(shape, int(io.GetComponentSize()), 0, voxel_file(Path(path))), DEFLATE_RATIO)


def voxel_file(path: Path) -> Path | None:
    """Return the file that holds the voxels of a MetaImage or NRRD header; None for other formats (unknown compression).

    Raises:
        UserError: If a `.mhd` or `.nhdr` names a file that is not in its folder, or another format names any file. Such a
            header could make the reader load any file of the computer as an image.
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
    """Unpack a gzip file without keeping it, to verify the checksum at its end; readers stop before it, at the last voxel.

    Raises:
        UserError: If it holds much more than `data_bytes`. Errors of gzip and zlib pass through if it is damaged.
    """
    unpacked = 0
    with gzip.open(path) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            if (unpacked := unpacked + len(chunk)) > data_bytes + SLACK_BYTES:
                raise UserError(f"it holds more than the {data_bytes} bytes that its header promises: the header is damaged")


def check_edges(affine: NDArray[np.float64], edges_mm: Sequence[float]) -> None:
    """Refuse an affine that disagrees with the voxel sizes in the header, because volumes would be unreliable."""
    of_affine_mm = np.linalg.norm(affine[:3, : len(edges_mm)], axis=0)
    if not np.allclose(of_affine_mm, edges_mm, rtol=EDGE_TOLERANCE, atol=0):
        raise UserError(
            f"its voxels have edges of {in_words(of_affine_mm)} mm by the affine and of {in_words(edges_mm)} mm by the voxel "
            "sizes beside it; expected the same. Correct the header"
        )


def in_words(edges_mm: Iterable[float]) -> str:
    """Return voxel edges as text."""
    return " x ".join(f"{edge:.4g}" for edge in edges_mm)


def check_grid(shape: tuple[int, ...], affine: NDArray[np.float64]) -> None:
    """Refuse a grid that is impossible for a head scan; later steps would fill the memory or find nothing.

    Args:
        shape: Size along X, Y and Z.
        affine: Affine from voxels to mm `(4, 4)`.

    Raises:
        UserError: With the given grid and the allowed values.
    """
    edges_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not (EDGES_MM[0] <= edges_mm).all() or not (edges_mm <= EDGES_MM[1]).all():
        raise UserError(
            f"its voxels have edges of {in_words(edges_mm)} mm; allowed are {EDGES_MM[0]:g} to "
            f"{EDGES_MM[1]:g} mm. The header is damaged, or its unit is not mm"
        )
    voxel_mm3 = abs(float(np.linalg.det(affine[:3, :3])))
    if voxel_mm3 < LEAST_SHEAR * edges_mm.prod():
        raise UserError("the axes of its affine lie in one plane; expected three axes at about right angles")
    if (liters := voxel_mm3 * prod(shape) / 1e6) > MOST_LITERS:
        raise UserError(f"it is {liters:.0f} liters large; allowed are up to {MOST_LITERS:g}. The voxel size is wrong")
