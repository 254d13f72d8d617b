"""DICOM series for tests, written with pydicom: one file a slice, or all slices as frames of one file; any grid."""

import io
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import encaps
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

MR, ENHANCED_MR, SECONDARY_CAPTURE = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("4", "4.1", "7"))
ROOT = "1.2.826.0.1.3680043.2.1125.1"
SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG 2000": JPEG2000Lossless,
    "JPEG-LS": JPEGLSLossless,
}


def write_series(folder, volume, spacing_mm=(1.1, 1.2, 2.0), origin_mm=(5.0, -7.0, 9.0), direction=None, **options):
    """Write a volume `(X, Y, Z)` of integers as a series with axial slices, in LPS, and return the files.

    Args:
        folder: where the files go; several series may share it.
        volume: what the slices show.
        spacing_mm: size of a voxel.
        origin_mm: center of the first voxel.
        direction: axes of the volume as columns, `(3, 3)`.
        options: `patient`, `number`, `description`, `modality`, `echo_time_ms`; `series`, the end of its UID, which is its
            number otherwise; `keep`, numbers of the slices to write; `syntax`, of `SYNTAXES`; `prefix` of the file names;
            `edit`, a function that changes a data set before it is saved.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    direction = np.eye(3) if direction is None else np.asarray(direction)
    files = []
    for index in options.get("keep", range(volume.shape[2])):
        position = np.asarray(origin_mm) + direction[:, 2] * index * spacing_mm[2]
        data = data_set(volume[..., index].T, index, spacing_mm, **options)
        data.ImagePositionPatient = [f"{mm:.6f}" for mm in position]
        data.ImageOrientationPatient = [f"{cosine:.8f}" for cosine in direction[:, :2].T.ravel()]
        if edit := options.get("edit"):
            edit(data)
        files.append(folder / f"{options.get('prefix', '')}{options.get('number', 1)}_{index:04d}.dcm")
        save(data, files[-1], options.get("syntax"))
    return files


def write_enhanced(folder, volume, order, spacing_mm=(1.1, 1.2, 2.0), origin_mm=(5.0, -7.0, 9.0), **options):
    """Write a volume as frames of one file, in the given order of slices; positions stand in the functional groups.

    The option `edit` changes the pixel measures.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    data = data_set(volume[..., 0].T, 0, spacing_mm, **options)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = ENHANCED_MR
    data.NumberOfFrames = len(order)
    data.PixelData = np.ascontiguousarray(np.stack([volume[..., index].T for index in order]), "<i2").tobytes()
    for tag in ("PixelSpacing", "SliceThickness", "EchoTime"):
        delattr(data, tag)
    measures = nested(PixelSpacing=[spacing_mm[1], spacing_mm[0]], SliceThickness=spacing_mm[2])
    data.SharedFunctionalGroupsSequence = nested(
        PlaneOrientationSequence=nested(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        PixelMeasuresSequence=measures,
        MREchoSequence=nested(EffectiveEchoTime=options.get("echo_time_ms", 3.2)),
    )
    positions = [[origin_mm[0], origin_mm[1], origin_mm[2] + index * spacing_mm[2]] for index in order]
    data.PerFrameFunctionalGroupsSequence = [
        nested(PlanePositionSequence=nested(ImagePositionPatient=position))[0] for position in positions
    ]
    if edit := options.get("edit"):
        edit(data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0])
    save(data, Path(folder) / "enhanced.dcm")


def data_set(pixels, index, spacing_mm, **options):
    """Return the data set of one slice."""
    series = f"{ROOT}.{options.get('series', options.get('number', 1))}"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MR
    meta.MediaStorageSOPInstanceUID = f"{series}.{zlib.crc32(options.get('prefix', '').encode())}.{index + 1}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = MR, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = ROOT, series
    data.StudyDate, data.StudyTime, data.Modality = "20260102", "120000", options.get("modality", "MR")
    data.PatientID, data.PatientName = options.get("patient", "P001"), "nobody"
    data.SeriesNumber, data.InstanceNumber = options.get("number", 1), index + 1
    data.SeriesDescription = options.get("description", "t1_mprage")
    data.EchoTime, data.ImageType = options.get("echo_time_ms", 3.2), ["ORIGINAL", "PRIMARY", "M"]
    data.PixelSpacing, data.SliceThickness = [float(spacing_mm[1]), float(spacing_mm[0])], float(spacing_mm[2])
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PixelData = np.ascontiguousarray(pixels, "<u2").tobytes()
    return data


def nested(**values):
    """Return a sequence of one item with these values."""
    item = Dataset()
    for tag, value in values.items():
        setattr(item, tag, value)
    return [item]


def save(data, path, syntax=None):
    """Save a data set in a transfer syntax."""
    if syntax in ("RLE", "JPEG-LS"):
        data.compress(SYNTAXES[syntax])
    elif syntax == "JPEG 2000":
        buffer = io.BytesIO()
        Image.fromarray(data.pixel_array).save(buffer, format="JPEG2000", no_jp2=True, irreversible=False)
        data.PixelData = encaps.encapsulate([buffer.getvalue()])
        data["PixelData"].is_undefined_length = True
    if syntax:
        data.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    data.save_as(path, enforce_file_format=True)
