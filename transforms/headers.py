"""What the header of a scan promises, checked before memory is taken for it.

A damaged header may promise 30,000 cubed voxels, a complex number in each, or more bytes than its file can hold; and a gzip
stream whose checksum is wrong may still unpack. All of this is refused here, in words, before the voxels are read.
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

# A head of 200 mm at 0.2 mm, as no scanner makes it; 4 GiB in single precision.
MOST_VOXELS = 2**30
# Axes of images that ITK reads for Python.
ITK_AXES = (2, 3, 4)
# zlib's own limit, see https://zlib.net/zlib_tech.html.
DEFLATE_RATIO = 1032
# Tags behind the voxels of .mgz, extensions: a file may hold so much more than its voxels.
SLACK_BYTES = 2**20
CHUNK_BYTES = 2**20
# Edges of voxels. Those of ATLAS R3.0 run from 0.25 to 6.2 mm; beyond these two the unit is another, or the header broken.
EDGES_MM = (0.1, 10.0)
# With much room: 500 mm along each axis are 125 liters.
MOST_LITERS = 250.0
# Between an affine and the voxel sizes beside it; headers round.
EDGE_TOLERANCE = 0.01
# Least volume of a voxel as a share of that of a box with its edges; below, axes lie in one plane.
LEAST_SHEAR = 0.01
# How headers of MetaImage and NRRD name another file for their voxels.
_NAMED = re.compile(rb"^(?:data ?file\s*:|ElementDataFile\s*[=:])([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


class Promise(NamedTuple):
    """What a header says is there: axes, bytes a voxel, bytes before the first, and the file that holds them, if known."""

    shape: tuple[int, ...]
    voxel_bytes: int
    offset_bytes: int
    file: Path | None

    @property
    def data_bytes(self) -> int:
        """Bytes of the unpacked file, up to the last voxel."""
        return self.offset_bytes + prod(self.shape) * self.voxel_bytes


def check_nibabel_file(path: str) -> NDArray[np.float64]:
    """Refuse a NIfTI, Analyze or FreeSurfer file that is too large, shorter than it says, damaged, or holds no numbers.

    Returns:
        Voxels to mm, `(4, 4)`: the sform of NIfTI where it has one. MONAI prefers what agrees with the voxel sizes beside it;
        then the mask would lie elsewhere than the scan.

    Raises:
        UserError: says which, and what is allowed; other errors as nibabel raises them.
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


def check_itk_file(path: str, count: int = 1) -> None:
    """Refuse a file, or a series of so many, that ITK would read into too much memory.

    Raises:
        UserError: says why, and what is allowed; other errors as ITK raises them.
    """
    io = itk.ImageIOFactory.CreateImageIO(path, itk.CommonEnums.IOFileMode_ReadMode)
    if io is None:
        raise UserError("it is in no format that is known here; expected NIfTI, MetaImage, NRRD, FreeSurfer's or DICOM")
    io.SetFileName(path)
    io.ReadImageInformation()
    if io.GetNumberOfComponents() != 1:
        raise UserError(f"its voxels have {io.GetNumberOfComponents()} components; expected one number each")
    shape = tuple(int(io.GetDimensions(axis)) for axis in range(io.GetNumberOfDimensions()))
    if len(shape) not in ITK_AXES:  # ITK would load all that it has, to say that there is nothing for it
        raise UserError(f"it has {len(shape)} axes; expected {ITK_AXES[0]} to {ITK_AXES[-1]}. Convert it to one 3D volume")
    check_size(Promise((*shape, count), int(io.GetComponentSize()), 0, voxel_file(Path(path))), DEFLATE_RATIO)


def voxel_file(path: Path) -> Path | None:
    """Return the file that holds the voxels of a MetaImage or NRRD header; None for other formats, which pack as they like.

    Raises:
        UserError: when the header names a file that is not beside it, or any file at all where it should hold the voxels
            itself: whoever made it could have any file of this computer read as an image.
    """
    kind = path.suffix.lower()
    if kind not in (".mha", ".mhd", ".nrrd"):
        return None
    with path.open("rb") as file:
        found = _NAMED.search(file.read(SLACK_BYTES))
    named = found[1].decode(errors="replace").strip() if found else "LOCAL"
    if named == "LOCAL":
        return path
    if kind != ".mhd" or named != Path(named).name or not (beside := path.with_name(named)).is_file():
        raise UserError(f"its header says that its voxels are in {named!r}; allowed is a file beside a .mhd")
    return beside


def check_size(promise: Promise, ratio: int) -> None:
    """Refuse a promise of too many voxels, of none, or of more bytes than its file can hold when packed `ratio` to 1."""
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
    """Unpack a gzip file, keeping nothing, and compare its checksum: readers stop at the last voxel, before it.

    Raises:
        UserError: when there is much more in it than `data_bytes`; errors of gzip and zlib when it is damaged.
    """
    unpacked = 0
    with gzip.open(path) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            if (unpacked := unpacked + len(chunk)) > data_bytes + SLACK_BYTES:
                raise UserError(f"it holds more than the {data_bytes} bytes that its header promises: the header is damaged")


def check_edges(affine: NDArray[np.float64], edges_mm: Sequence[float]) -> None:
    """Refuse an affine whose voxels have other edges than the header says beside it: one is wrong, and so are volumes."""
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
    """Refuse a grid that no scan of a head can have; what follows would fill the memory, or find nothing.

    Args:
        shape: X, Y, Z.
        affine: voxels to mm, `(4, 4)`.

    Raises:
        UserError: says what the grid is, and what is allowed.
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
