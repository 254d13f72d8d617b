"""DICOM segmentations: each voxel of the mask at the pixel it was found in, as highdicom and pydicom read it."""

import sys

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_files import write_enhanced, write_series
from nibabel.affines import apply_affine

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.dicom_seg import require_highdicom, write_seg
from strokelesion.transforms.conversion import DicomImage, convert_series

hd = pytest.importorskip("highdicom")

SHAPE = (12, 14, 16)
SHA256 = "ab" * 32
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
TILT = np.array([[0, 0.96, 0.28], [1, 0, 0], [0, 0.28, -0.96]])  # sagittal-like slices, the columns downwards


def volume():
    return np.random.default_rng(0).integers(0, 900, SHAPE)


def classic(folder):
    return write_series(folder, volume())


def tilted(folder):
    return write_series(folder, volume(), direction=TILT)


def enhanced(folder):
    write_enhanced(folder, volume(), order=range(SHAPE[2])[::-1])
    return [folder / "enhanced.dcm"]


def labels_of(image):
    return (image > 700).astype(np.uint8) + (image > 800)


def converted(files):
    """Return labels on the grid that dcm2niix makes of a series, and its affine."""
    with convert_series(files) as series:
        image = nib.load(series.images[0].path)
        return labels_of(np.asarray(image.dataobj)), image.affine


def frames_by_pydicom(path):
    """Yield number of the segment, position and pixels of each frame, by pydicom alone, and the place of each pixel in RAS."""
    data = pydicom.dcmread(path)
    shared = data.SharedFunctionalGroupsSequence[0]
    row, column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    of_rows, of_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    for pixels, frame in zip(data.pixel_array, data.PerFrameFunctionalGroupsSequence, strict=True):
        down, right = np.argwhere(pixels).T
        first = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        places = first + np.outer(right * of_columns, row) + np.outer(down * of_rows, column)
        yield frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber, places * [-1, -1, 1]


def sorted_mm(places):
    return places[np.lexsort(places.round(1).T)]


@pytest.mark.parametrize("series", [classic, tilted, enhanced])
def test_each_segment_lies_where_the_mask_does(series, tmp_path):
    files = series(tmp_path / "series")
    labels, affine = converted(files)
    path = write_seg(tmp_path / "seg.dcm", labels, affine, files, SHA256)
    found = list(frames_by_pydicom(path))
    volume_of_all = hd.seg.segread(path).get_volume(combine_segments=False)
    for number in (1, 2):
        expected = sorted_mm(apply_affine(affine, np.argwhere(labels == number)))
        by_pydicom = np.concatenate([places for segment, places in found if segment == number])
        by_highdicom = apply_affine(LPS_TO_RAS @ volume_of_all.affine, np.argwhere(volume_of_all.array[..., number - 1]))
        np.testing.assert_allclose(sorted_mm(by_pydicom), expected, atol=1e-3)
        np.testing.assert_allclose(sorted_mm(by_highdicom), expected, atol=1e-3)


@pytest.mark.parametrize("series", [classic, enhanced])
def test_the_segmentation_names_its_source_its_classes_and_its_model(series, tmp_path):
    files = series(tmp_path / "series")
    path = write_seg(tmp_path / "seg.dcm", *converted(files), files, SHA256)
    data, source = pydicom.dcmread(path), pydicom.dcmread(files[0])
    assert data.StudyInstanceUID == source.StudyInstanceUID
    assert data.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    referenced = {one.ReferencedSOPInstanceUID for one in data.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referenced == {pydicom.dcmread(file).SOPInstanceUID for file in files}
    assert [one.SegmentLabel for one in data.SegmentSequence] == ["Main lesion", "Sub-lesion"]
    assert {one.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for one in data.SegmentSequence} == {"Infarct"}
    algorithm = data.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmParameters) == ("strokelesion", f"ModelSHA256={SHA256}")


def test_the_same_mask_has_the_same_uid_and_another_mask_another(tmp_path):
    files = classic(tmp_path / "series")
    labels, affine = converted(files)
    masks = labels, labels, np.zeros_like(labels)
    paths = [write_seg(tmp_path / f"{number}.dcm", mask, affine, files, SHA256) for number, mask in enumerate(masks)]
    one, again, empty = map(pydicom.dcmread, paths)
    assert one.SOPInstanceUID == again.SOPInstanceUID != empty.SOPInstanceUID
    assert not empty.pixel_array.any()


def moved(affine):
    other = affine.copy()
    other[0, 3] += 0.3
    return other


@pytest.mark.parametrize(
    "change",
    [
        lambda labels, affine: (labels[:-1], affine),
        lambda labels, affine: (np.pad(labels, ((0, 0), (0, 0), (0, 1))), affine),
        lambda labels, affine: (labels, moved(affine)),
    ],
)
def test_a_mask_on_another_grid_is_refused(change, tmp_path):
    files = classic(tmp_path / "series")
    with pytest.raises(UserError, match=r"is not on the grid of its 16 DICOM slices, of which .* use the NIfTI mask"):
        write_seg(tmp_path / "seg.dcm", *change(*converted(files)), files, SHA256)


def test_without_highdicom_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(UserError, match=r"pip install 'strokelesion\[dicom\]'"):
        write_seg(tmp_path / "seg.dcm", np.zeros(SHAPE, np.uint8), np.eye(4), [], SHA256)
    items = [{"image": "scan.nii"}, {"image": DicomImage((), "1.2", "", {})}]
    require_highdicom(SHA256, tmp_path, items[:1])
    with pytest.raises(UserError, match="need highdicom"):
        require_highdicom(SHA256, tmp_path, items)
