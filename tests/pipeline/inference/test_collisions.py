"""No result takes the place of another scan's, and every input is accounted for."""

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from atlas import anatomy, grid
from dicom_files import ROOT, write_series
from model_files import write_model
from stand_ins import DarkIsLesion

from strokelesion.networks import UserError
from strokelesion.pipeline.runtime.errors import user_error


@pytest.fixture
def segment(run_command, tmp_path):
    """Segment scans into one folder, with a network that calls dark tissue lesion."""
    model = write_model(tmp_path / "dark.pt", DarkIsLesion(), "stand_ins.DarkIsLesion", spacing_mm=(8.0, 8.0, 8.0))
    network = {"network_def": {"_target_": "stand_ins.DarkIsLesion"}, "weights": model, "pages": False}

    def run(scans, **options):
        run_command("inference", "resunet", scans=str(scans), output_dir=str(tmp_path / "out"), **network, **options)

    return run


@pytest.fixture
def patients(tmp_path):
    """Two patients whose scans have one name; only the first has lesions."""
    shape, affine = grid()
    image, main, sub = anatomy(shape, affine)
    for name, values in (("patient1", image), ("patient2", np.where(main | sub, 80, image))):
        (tmp_path / name).mkdir()
        nib.save(nib.Nifti1Image(values.astype(np.float32), affine), tmp_path / name / "T1.nii.gz")
    return tmp_path


def source(tmp_path):
    return json.loads((tmp_path / "out/sub-T1/anat/sub-T1_label-lesion_mask.json").read_text())["Sources"]


def test_a_loop_over_patients_never_replaces_a_result(segment, patients):
    segment(patients / "patient1/T1.nii.gz")
    with pytest.raises(RuntimeError) as error:
        segment(patients / "patient2/T1.nii.gz")
    known = user_error(error.value)
    assert isinstance(known, UserError)
    assert f"sub-T1: of {patients}/patient1/T1.nii.gz, and now of {patients}/patient2/T1.nii.gz" in str(known)
    assert source(patients) == [f"file://{patients}/patient1/T1.nii.gz"]
    segment(patients / "patient2/T1.nii.gz", overwrite=True)
    assert source(patients) == [f"file://{patients}/patient2/T1.nii.gz"]
    segment(patients / "patient*/T1.nii.gz")
    volumes = pd.read_csv(patients / "out/volumes.tsv", sep="\t").set_index("scan")["total_ml"]
    assert volumes["sub-patient1T1"] > 20 > volumes["sub-patient2T1"] == 0


def test_tables_keep_the_results_of_other_runs(segment, patients):
    for number in (1, 2):
        (patients / f"patient{number}/T1.nii.gz").rename(patients / f"sub-{number}_desc-x_T1w.nii.gz")
        segment(patients / f"sub-{number}_desc-x_T1w.nii.gz")
    for scans in ("sub-*", "sub-1*"):
        segment(patients / scans)
        assert pd.read_csv(patients / "out/volumes.tsv", sep="\t")["scan"].tolist() == ["sub-1_desc-x", "sub-2_desc-x"]


def test_a_scan_that_moved_or_changed_is_still_the_same(segment, patients, capsys):
    segment(patients / "patient1/T1.nii.gz")
    shutil.move(patients / "patient1", patients / "moved")
    segment(patients / "moved/T1.nii.gz")
    assert "1 of them before" in capsys.readouterr().out
    shutil.copy(patients / "patient2/T1.nii.gz", patients / "moved/T1.nii.gz")
    with pytest.raises(RuntimeError):  # its place and its content are others than those of the result
        segment(patients / "moved/T1.nii.gz")


def test_a_scan_that_cannot_be_read_any_more_fails_alone(segment, patients):
    segment(patients / "patient*/T1.nii.gz")
    (patients / "patient1/T1.nii.gz").unlink()
    (patients / "patient1/T1.nii.gz").symlink_to("../.git/annex/objects/T1.nii.gz")
    with pytest.raises(SystemExit):
        segment(patients)
    (failed,) = pd.read_csv(patients / "out/failures.tsv", sep="\t").to_dict("records")
    assert "datalad get" in failed["reason"]


def test_doubts_about_a_series_are_warnings_of_its_row(segment, tmp_path):
    shape, affine = grid("LPS")
    values = 10 * anatomy(shape, affine)[0] + np.random.default_rng(0).integers(0, 50, shape)
    write_series(tmp_path / "in", values.astype(np.uint16), (8.0, 8.0, 8.0), edit=lambda data: data.pop("ImagePositionPatient"))
    segment(tmp_path / "in")
    (row,) = pd.read_csv(tmp_path / "out/volumes.tsv", sep="\t").to_dict("records")
    assert "please check whether slices are flipped" in row["warnings"]
    sidecar = json.loads((tmp_path / f"out/{row['scan']}/anat/{row['scan']}_label-lesion_mask.json").read_text())
    assert sidecar["Sources"] == [(tmp_path / "in").as_uri()]
    assert sidecar["SeriesInstanceUID"] == f"{ROOT}.1"


def test_inputs_lists_what_is_taken_and_what_is_not(segment, patients, caplog):
    (patients / "patient2/T1_mask.nii.gz").touch()
    with caplog.at_level("INFO", logger="strokelesion"):
        segment(patients)
    (listed,) = (record.getMessage() for record in caplog.records if record.name.endswith("new_scans"))
    assert listed.splitlines() == [
        "2 scans are taken:",
        *(f"  {patients}/patient{number}/T1.nii.gz -> sub-patient{number}T1" for number in (1, 2)),
        "1 file or folder is left out:",
        f"  {patients}/patient2/T1_mask.nii.gz: a mask or map by its name",
        "The whole list is inputs.tsv.",
    ]
    inputs = pd.read_csv(patients / "out/inputs.tsv", sep="\t", keep_default_na=False)
    assert inputs.to_numpy().tolist() == [
        [f"{patients}/patient1/T1.nii.gz", "yes", "sub-patient1T1", "n/a"],
        [f"{patients}/patient2/T1.nii.gz", "yes", "sub-patient2T1", "n/a"],
        [f"{patients}/patient2/T1_mask.nii.gz", "no", "n/a", "a mask or map by its name"],
    ]
    assert "inputs.tsv" in (patients / "out/.bidsignore").read_text().split()
