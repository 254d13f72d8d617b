"""Write the lesions of a scan from DICOM as a DICOM segmentation (SEG), so that viewers show them on the source series.

The label map lies on the grid of the converted NIfTI image. Its voxels are looked up at the positions of the pixels of each
source slice, so no order of slices or axes is assumed. Nothing is interpolated.

Source: DICOM PS3.3, A.51 (Segmentation IOD) and C.8.20; highdicom, Bridge et al., J Digit Imaging 35 (2022).
"""

import hashlib
import importlib.util
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.scan_images import ScanFolder
from strokelesion.pipeline.lesions.measuring import MeasuredScan
from strokelesion.pipeline.runtime.files import written_whole
from strokelesion.transforms.conversion import DicomImage

# Class, label and color (CIELab of the red and cyan of the pages) of the segments, whose numbers are the labels of the map.
SEGMENTS = (("Main lesion", (57.0, 75.0, 55.0)), ("Sub-lesion", (82.0, -45.0, -13.0)))
# SNOMED CT: Infarct (morphologic abnormality); context group 7159 of DICOM, to which it is added, has no infarct.
INFARCT = ("55641003", "SCT", "Infarct")
# Tags that a segmentation copies from its source; anonymized files may lack them, and the standard allows them to be empty.
COPIED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
# Functional groups of an enhanced file, each shared by all frames or stored with each, that place a frame.
PLANE_GROUPS = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
# Largest distance of a pixel to its voxel, in voxels. NIfTI stores affines in single precision.
OFF_GRID = 0.02
SERIES_OFFSET = 1000
NOT_INSTALLED = "DICOM segmentations need highdicom, which is not installed; run: pip install 'strokelesion[dicom]'"

# File of a scan, whose name replaces `*`.
SEG = "dicom/*_seg.dcm"


class Frame(NamedTuple):
    """One slice of a series: number of rows and columns, and the affine from (column, row, 0) to mm in RAS."""

    rows: int
    columns: int
    affine: NDArray[np.float64]


def require_highdicom(_: Any, __: Path, items: Sequence[Mapping[str, Any]]) -> None:
    """Raise UserError if any scan comes from DICOM and highdicom is not installed."""
    if any(isinstance(item["image"], DicomImage) for item in items) and importlib.util.find_spec("highdicom") is None:
        raise UserError(NOT_INSTALLED)


def write_dicom_seg(scan: MeasuredScan, files: ScanFolder, model_sha256: Any) -> None:
    """Write the DICOM segmentation of a scan from DICOM; if its grid is not that of the slices, add a warning."""
    image = scan.item["image"]
    if not isinstance(image, DicomImage):
        return
    try:
        labels, affine = scan.segmented.labels, scan.segmented.affine
        write_seg(files.path(SEG), labels, affine, image.files, model_sha256, files.is_manual)
    except UserError as error:
        scan.warnings.append(f"no DICOM segmentation was written: {error}")


def write_seg(
    path: Path,
    labels: NDArray[np.uint8],
    affine: Any,
    files: Sequence[str | Path],
    model_sha256: str,
    is_corrected: bool = False,
) -> Path:
    """Write a label map as a DICOM segmentation with one segment for each class, and return its path.

    Args:
        path: File to write, `.dcm`.
        labels: Label map `(X, Y, Z)`: 0 background, 1 main lesion, 2 sub-lesion.
        affine: Affine `(4, 4)` of the map from voxels to mm in RAS.
        files: Files of the source series: one for each slice, or one with many frames.
        model_sha256: SHA-256 of the model, for the description of the algorithm.
        is_corrected: Whether a person corrected the mask.

    Raises:
        UserError: If highdicom is not installed, or if the map is not on the grid of the slices.
    """
    made = make_seg(labels, affine, files, model_sha256, "SEMIAUTOMATIC" if is_corrected else "AUTOMATIC")
    with written_whole(path) as beside:
        made.save_as(beside)
    return path


def make_seg(
    labels: NDArray[np.uint8], affine: Any, files: Sequence[str | Path], model_sha256: str, kind: str = "AUTOMATIC"
) -> Any:
    """Return the segmentation as a data set of highdicom; see `write_seg`."""
    try:
        import highdicom
        import pydicom
    except ModuleNotFoundError:
        raise UserError(NOT_INSTALLED) from None
    images = sorted(map(read_tags, files), key=lambda image: int(image.get("InstanceNumber") or 0))
    pixels = pixels_of(labels, np.asarray(affine, dtype=float), [frame for image in images for frame in frames_of(image)])
    made_from = [
        images[0].SeriesInstanceUID,
        model_sha256,
        version("strokelesion"),
        hashlib.sha256(pixels.tobytes()).hexdigest(),
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The string .* is unlikely to represent", UserWarning)  # the name of the patient
        return highdicom.seg.Segmentation(
            images,
            pixels,
            "BINARY",
            [describe_segment(number, model_sha256, kind) for number in range(1, 1 + len(SEGMENTS))],
            series_instance_uid=pydicom.uid.generate_uid(entropy_srcs=["series", *made_from]),
            sop_instance_uid=pydicom.uid.generate_uid(entropy_srcs=["instance", *made_from]),
            series_number=int(images[0].get("SeriesNumber") or 0) + SERIES_OFFSET,
            instance_number=1,
            manufacturer="strokelesion",
            manufacturer_model_name="strokelesion",
            software_versions=version("strokelesion"),
            device_serial_number=model_sha256[:64] or "unknown",
            content_label="STROKE_LESIONS",
            content_description="Stroke lesions on T1-weighted MRI",
            series_description="Stroke lesions",
            omit_empty_frames=bool(pixels.any()),
        )


def read_tags(file: str | Path) -> Any:
    """Return the tags of a DICOM file without its pixels, with those that a segmentation needs."""
    import pydicom

    image = pydicom.dcmread(file, stop_before_pixels=True)
    for tag in COPIED:
        image.setdefault(tag, "")
    # All slices of a series share the frame of reference.
    image.setdefault("FrameOfReferenceUID", pydicom.uid.generate_uid(entropy_srcs=[image.SeriesInstanceUID]))
    return image


def describe_segment(number: int, model_sha256: str, kind: str) -> Any:
    """Return the description of a segment: its class as label, infarct as coded type, the kind and the algorithm."""
    import highdicom
    from pydicom.sr.codedict import codes

    name, color = SEGMENTS[number - 1]
    algorithm = highdicom.AlgorithmIdentificationSequence(
        "strokelesion", codes.DCM.ArtificialIntelligence, version("strokelesion"), parameters={"ModelSHA256": model_sha256}
    )
    return highdicom.seg.SegmentDescription(
        number,
        name,
        codes.SCT.MorphologicallyAbnormalStructure,
        highdicom.sr.CodedConcept(INFARCT[0], INFARCT[1], INFARCT[2]),
        kind,
        algorithm,
        anatomic_regions=[codes.SCT.Brain],
        display_color=highdicom.color.CIELabColor(*color),
    )


def frames_of(image: Any) -> Iterator[Frame]:
    """Yield the slices of a file in their order: one of a classic file, all frames of an enhanced one."""
    if "PerFrameFunctionalGroupsSequence" not in image:
        yield frame_at(image, image.ImagePositionPatient, image.ImageOrientationPatient, image.PixelSpacing)
        return
    shared = image.SharedFunctionalGroupsSequence[0]
    for own in image.PerFrameFunctionalGroupsSequence:
        position, orientation, measures = ((own if group in own else shared)[group].value[0] for group in PLANE_GROUPS)
        yield frame_at(image, position.ImagePositionPatient, orientation.ImageOrientationPatient, measures.PixelSpacing)


def frame_at(image: Any, position: Any, orientation: Any, spacing: Any) -> Frame:
    """Return a slice from its tags, which are in LPS; the third column of the affine is the normal of the slice."""
    along_row, along_column = np.array(orientation, dtype=float).reshape(2, 3)
    affine = np.eye(4)
    # The first number of the pixel spacing is the distance of rows.
    affine[:3, 0], affine[:3, 1] = along_row * float(spacing[1]), along_column * float(spacing[0])
    affine[:3, 2], affine[:3, 3] = np.cross(along_row, along_column), np.array(position, dtype=float)
    return Frame(int(image.Rows), int(image.Columns), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)


def pixels_of(labels: NDArray[np.uint8], affine: NDArray[np.float64], frames: Sequence[Frame]) -> NDArray[np.uint8]:
    """Return the labels at the pixels of each slice, `(slices, rows, columns)`.

    Raises:
        UserError: If pixels are not at voxels, or if slices and voxels are not one to one.
    """
    found = [labels_at(labels, affine, frame) for frame in frames]
    slices = {number for _, number in found if number is not None}
    if len(slices) != len(frames) or sum(pixels.size for pixels, _ in found) != labels.size:
        raise UserError(
            f"the mask of {' x '.join(map(str, labels.shape))} voxels is not on the grid of its {len(frames)} DICOM slices, of "
            f"which {len(slices)} lie on it; expected one voxel for each pixel. A series with several images, or slices at "
            "uneven distances, cannot have a DICOM segmentation: use the NIfTI mask."
        )
    return np.stack([pixels for pixels, _ in found])


def labels_at(
    labels: NDArray[np.uint8], affine: NDArray[np.float64], frame: Frame
) -> tuple[NDArray[np.uint8], tuple[int, ...] | None]:
    """Return the labels at the pixels of a slice `(rows, columns)`, and the voxel of its first; None off the grid."""
    row, column = np.mgrid[: frame.rows, : frame.columns]
    pixels = np.stack([column, row, np.zeros_like(row)], axis=-1)
    exact = apply_affine(np.linalg.inv(affine) @ frame.affine, pixels)
    voxels = np.rint(exact).astype(int)
    on_grid = np.abs(exact - voxels).max() <= OFF_GRID and (voxels >= 0).all() and (voxels < labels.shape).all()
    if not on_grid:
        return np.zeros(row.shape, np.uint8), None
    return labels[tuple(np.moveaxis(voxels, -1, 0))], tuple(voxels[0, 0].tolist())
