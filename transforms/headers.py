"""Headers of NIfTI scans: what they leave open, and the header that puts a mask exactly onto its scan.

Viewers differ in the form that they follow: nibabel takes the sform first, ITK often the qform, and both guess if neither has a
code. Therefore a mask has both forms, their codes and the units of its scan.
"""

import re
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
from monai.config import PathLike
from nibabel.spatialimages import HeaderDataError

from strokelesion.transforms.content import GZIP, named_by_content
from strokelesion.transforms.conversion import DicomImage
from strokelesion.transforms.geometry import corner_shift_mm
from strokelesion.transforms.reading import NIBABEL_SUFFIXES, SLACK_BYTES, is_analyze

# Codes of NIfTI for the space of a form.
SCANNER, MNI = 1, 4
GRID_FIELDS = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z", "pixdim", "xyzt_units"),
)
# A larger distance between the corners of qform and sform is a contradiction, not a rounding error.
FORMS_TOLERANCE_MM = 1.0
# Where the flag `goodRASFlag` lies in a file of FreeSurfer.
GOOD_RAS = slice(28, 30)
# Names of anatomical spaces in NRRD, and of direction matrices in MetaImage.
_ANATOMICAL = re.compile(rb"^space:\s*(?:(?:right|left)-(?:anterior|posterior)-superior|[RL][AP]S\b)", re.I | re.M)
_MATRIX = re.compile(rb"^(?:TransformMatrix|Orientation|Rotation)\s*[=:]", re.M)
NO_AFFINE = "has no affine (the codes of qform and sform are 0): which side is left, and which way is up, was guessed"
NO_SPACE = "does not say how its axes lie in the head: which side is left, and which way is up, was guessed"
ANALYZE = "is in the format Analyze, which does not say where left is: it was guessed"


def read_nifti_header(source: PathLike | DicomImage) -> nib.Nifti1Header | None:
    """Return the header of a NIfTI file; None for other formats."""
    if isinstance(source, DicomImage) or not str(source).lower().endswith(NIBABEL_SUFFIXES):
        return None
    with named_by_content(str(source)) as named:
        header: Any = nib.load(named).header
    return header if isinstance(header, nib.Nifti1Header) else None


def find_missing_affine(source: PathLike | DicomImage, header: nib.Nifti1Header | None) -> str:
    """Return in words that a scan does not say which side is left; "" if it does.

    Args:
        source: File, or an image of a DICOM series.
        header: Its header if it is NIfTI.
    """
    if header is not None:
        return NO_AFFINE if header["qform_code"] == header["sform_code"] == 0 else ""
    if isinstance(source, DicomImage):
        return ""
    if is_analyze(str(source)):
        return ANALYZE
    return "" if has_space(Path(source)) else NO_SPACE


def has_space(path: Path) -> bool:
    """Return whether a FreeSurfer, NRRD or MetaImage file says how its axes lie in the head; readers guess if it does not."""
    kind = path.suffix.lower()
    with path.open("rb") as file:
        start = file.read(SLACK_BYTES)
    if kind in (".mgz", ".mgh"):
        header = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(start, GOOD_RAS.stop) if start.startswith(GZIP) else start
        return header[GOOD_RAS] != b"\0\0"
    if kind in (".nrrd", ".nhdr"):
        header = re.split(rb"\r?\n\r?\n", start, maxsplit=1)[0]
        return None not in (_ANATOMICAL.search(header), re.search(rb"^space directions:", header, re.MULTILINE))
    return kind not in (".mha", ".mhd") or _MATRIX.search(start.partition(b"ElementDataFile")[0]) is not None


def find_two_affines(header: nib.Nifti1Header | None) -> str:
    """Return in words how far qform, sform and voxel size of a NIfTI file disagree; "" if they agree."""
    if header is None:
        return ""
    taken, shape = header.get_best_affine(), header.get_data_shape()[:3]
    try:
        forms = [header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]]
    except (HeaderDataError, ValueError):
        return "has a qform that is no rotation, and a sform, which was taken"
    shift_mm = max((corner_shift_mm(shape, form, taken) for form in forms if form is not None), default=0)
    if shift_mm <= FORMS_TOLERANCE_MM:
        return ""
    where = f"a corner is read {shift_mm:.1f} mm from where one of them puts it"
    return f"has a qform, a sform and a voxel size that disagree: {where}"


def mask_header(scan: nib.Nifti1Header | None, affine: Any, code: int = SCANNER) -> nib.Nifti1Header:
    """Return a header that places voxels as a scan's does.

    Args:
        scan: Header of the scan; None if it is not NIfTI.
        affine: Affine `(4, 4)` in millimeters for both forms if there is no such header.
        code: Code of both forms in that case.
    """
    header = nib.Nifti1Header()
    if scan is None:
        header.set_qform(affine, code)
        header.set_sform(affine, code)
        header.set_xyzt_units("mm")
        return header
    header.set_data_shape(scan.get_data_shape()[:3])  # without codes, nibabel computes the affine from it
    for field in GRID_FIELDS:
        header[field] = scan[field]
    return header
