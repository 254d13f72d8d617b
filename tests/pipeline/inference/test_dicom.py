"""DICOM series: distinguished, named, left out with reasons, and read with the geometry that they were written with."""

import re

import numpy as np
import pytest
from dicom_files import write_series
from monai.transforms import LoadImage

from strokelesion.networks import UserError
from strokelesion.pipeline.inference.dicom import find_series, milliseconds
from strokelesion.transforms import SeriesReader

SHAPE = (11, 13, 21)


def volume(seed=0):
    return np.random.default_rng(seed).integers(0, 1000, SHAPE)


@pytest.fixture
def study(tmp_path):
    """Two T1s in one folder and one in another, among what else a study has."""
    write_series(tmp_path / "a", volume(0), number=3)
    write_series(tmp_path / "a", volume(1), number=4, description="T1 MPRAGE / sag")
    write_series(tmp_path / "a", volume(2), number=5, description="t2_flair", echo_time_ms=90)
    write_series(tmp_path / "a", volume(3)[..., :3], number=1, description="localizer")
    write_series(tmp_path / "deep/b", volume(4), number=2, patient="P 002")
    write_series(tmp_path / "deep/b", volume(5), number=7, patient="P 002", modality="CT")
    (tmp_path / "deep/notes.txt").write_text("no DICOM")
    return tmp_path


def test_series_that_share_a_folder_are_told_apart_and_named_by_patient_and_series(study):
    found = find_series(study)
    assert [series.name for series in found] == ["P001_3_t1-mprage", "P001_4_T1-MPRAGE-sag", "P-002_2_t1-mprage"]
    assert [series.folder for series in found] == [str(study / "a")] * 2 + [str(study / "deep/b")]
    assert {series.slices for series in found} == {21}


def test_what_is_no_t1_volume_is_left_out_and_the_log_says_why(study, caplog):
    with caplog.at_level("INFO"):
        find_series(study)
    said = "\n".join(caplog.messages)
    for reason in ("t2-flair in .*echo time 90 ms", "localizer in .*3 slices", "P-002_7.*modality CT, not MR"):
        assert re.search(reason, said), reason
    write_series(study / "ct", volume(), modality="CT")
    with pytest.raises(UserError, match=r"(?s)1 DICOM series below .*none a T1-weighted scan.*modality CT.*Give the folder"):
        find_series(study / "ct")


def test_a_folder_without_dicom_has_no_series(tmp_path):
    (tmp_path / "notes.txt").write_text("no DICOM")
    assert find_series(tmp_path) == []


@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_a_series_is_read_as_it_was_written(tmp_path, tilt):
    direction = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    for number in (1, 2):
        write_series(tmp_path, volume(number), number=number, direction=direction)
    for number, series in enumerate(find_series(tmp_path), start=1):
        image = LoadImage(reader=SeriesReader())(series.files)
        np.testing.assert_array_equal(image.numpy(), volume(number))
        lps = np.diag([-1.0, -1, 1])
        np.testing.assert_allclose(image.affine[:3, :3], lps @ direction @ np.diag([1.1, 1.2, 2.0]), atol=1e-5)
        np.testing.assert_allclose(image.affine[:3, 3], [-5, 7, 9], atol=1e-5)


@pytest.mark.parametrize(("text", "value"), [("3.2", 3.2), ("2.9\\5.1", 2.9), ("", 0), ("?", 0)])
def test_numbers_of_headers(text, value):
    assert milliseconds(text) == value
