"""Segmenting from Python gives what the command gives, for files, series and images in memory, and refuses what it refuses."""

import warnings

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from atlas import anatomy, grid
from dicom_files import write_series
from model_files import write_model
from stand_ins import DarkIsLesion

from strokelesion.networks import CommandLineError, UserError
from strokelesion.pipeline.inference import Segmenter

NETWORK = {"network_def": {"_target_": "stand_ins.DarkIsLesion"}}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that calls dark tissue lesion."""
    path = tmp_path_factory.mktemp("model") / "dark.pt"
    return write_model(path, DarkIsLesion(), "stand_ins.DarkIsLesion", spacing_mm=(8.0, 8.0, 8.0))


@pytest.fixture(scope="module")
def segment(model):
    return Segmenter(weights=model, device="cpu", positions=False, **NETWORK)


@pytest.fixture
def scan(tmp_path):
    """A scan with lesions on an oblique grid."""
    shape, affine = grid("LPS")
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(anatomy(shape, affine)[0].astype(np.float32), affine), path)
    return path


def test_it_gives_what_the_command_writes(segment, model, scan, run_command, tmp_path):
    run_command(
        "inference", "resunet", scans=str(scan), output_dir=str(tmp_path / "out"), weights=model, pages=False, **NETWORK
    )
    result, anat = segment(scan), tmp_path / "out/sub-scan/anat"
    for image, file in ((result.mask, "label-lesion_mask"), (result.classes, "seg-lesions_dseg")):
        written = nib.load(anat / f"sub-scan_{file}.nii.gz")
        np.testing.assert_array_equal(image.dataobj, written.dataobj)
        assert image.header == written.header
    (row,) = pd.read_csv(tmp_path / "out/volumes.tsv", sep="\t").to_dict("records")
    assert result.volumes["total_ml"] == pytest.approx(row["total_ml"], abs=1e-3)
    assert len(result.lesions) == row["lesions"] == 2
    assert result.warnings
    assert (np.asarray(result.probability.dataobj)[np.asarray(result.mask.dataobj) > 0] > 0.5).all()


def test_an_image_in_memory_gives_what_its_file_gives(segment, scan):
    of_file, of_image = segment(scan), segment(nib.load(scan))
    np.testing.assert_array_equal(of_file.mask.dataobj, of_image.mask.dataobj)
    pd.testing.assert_frame_equal(of_file.lesions, of_image.lesions)


def test_a_folder_of_one_series_is_a_scan(segment, tmp_path):
    shape, affine = grid("LPS")
    values = 10 * anatomy(shape, affine)[0] + np.random.default_rng(0).integers(0, 50, shape)
    write_series(tmp_path / "in", values.astype(np.uint16), (8.0, 8.0, 8.0))
    assert segment(tmp_path / "in").volumes["lesions"] == 2


def test_what_is_no_scan_is_refused_and_the_next_one_is_segmented(segment, scan, tmp_path):
    with pytest.raises(UserError, match="found no scan"):
        segment(tmp_path / "nowhere.nii")
    (tmp_path / "second.nii.gz").write_bytes(b"no scan")
    with pytest.raises(UserError, match=r"holds 2 scans; expected one"):
        segment(tmp_path)
    with pytest.raises(UserError, match=r"second\.nii\.gz"):
        segment(tmp_path / "second.nii.gz")
    assert len(segment(scan).lesions) == 2


def test_a_wrong_option_is_refused_and_a_good_one_decides(model, scan):
    with pytest.raises(CommandLineError, match="--threshold got 3"):
        Segmenter(weights=model, device="cpu", threshold=3, **NETWORK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the bundle file is the project's own
        strict = Segmenter(weights=model, device="cpu", positions=False, min_component_ml=10_000.0, **NETWORK)
    assert strict(scan).volumes["total_ml"] == 0
