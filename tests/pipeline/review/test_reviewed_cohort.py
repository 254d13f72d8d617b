"""A reviewed results folder is a data set of its accepted and corrected scans."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from checkout import ROOT
from monai.bundle import ConfigParser
from small_result import AFFINE, SHAPE

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.survey import CohortError
from strokelesion.pipeline.derivatives.result_names import MANUAL_MASK, name_scans
from strokelesion.pipeline.review.reviewed_cohort import read_labeled
from strokelesion.pipeline.review.saving import find_reviewed, read_voxels
from strokelesion.transforms import LabelLesionsd

pytestmark = pytest.mark.usefixtures("no_doubts")


def decide(scan, status):
    scan.decide(scan.version(scan.decision()), status, "AB", "")


@pytest.fixture
def scans(results, outcome, tmp_path):
    """The results of four scans of two persons: reviewed scans by name."""
    names = ["sub-01_ses-1_T1w", "sub-01_ses-2_run-1_T1w", "sub-02_T1w", "sub-03_T1w"]
    items = []
    for number, name in enumerate(names):
        path = tmp_path / f"raw/{name.split('_')[0]}/anat/{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.full(SHAPE, number, np.uint8), AFFINE), path)
        items.append({"image": str(path)})
    (tmp_path / "raw/dataset_description.json").write_text("{}")
    done, of_scans = results(), name_scans(items, tmp_path / "raw")
    done.describe(items)
    for name, item in zip(of_scans, items, strict=True):
        done.write(name, item, outcome)
    done.gather(of_scans, {})
    return find_reviewed(tmp_path / "out")


def read_label(record):
    """Return the label map of a record as training reads it."""
    config = json.loads((ROOT / "bundles/resunet.json").read_text())
    parser = ConfigParser({"allow_empty": False, "allow_gray": False, "imports": [], "traced": config["traced"]})
    return LabelLesionsd()(parser.get_parsed_content("traced")(record))["label"][0].numpy()


def test_accepted_and_corrected_scans_are_read_with_their_masks_of_record(scans, tmp_path):
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[1:4, 2:5, 3:5], drawn[8, 9:12, 6] = 2, 1
    accepted, corrected, rejected, _ = scans.values()
    decide(accepted, "accepted")
    corrected.correct(corrected.version(corrected.decision()), drawn, "AB", "")
    decide(rejected, "rejected")
    first, second = read_labeled(tmp_path / "out")
    assert [(r["subject"], r["person"], r["session"]) for r in (first, second)] == [
        ("sub-01", "sub-01", "ses-1"),
        ("sub-01", "sub-01", "ses-2_run-1"),
    ]
    assert first["image"] == str(tmp_path / "raw/sub-01/anat/sub-01_ses-1_T1w.nii.gz")
    assert np.bincount(read_label(first).ravel()).tolist()[1:] == [27, 1]
    np.testing.assert_array_equal(read_label(second), drawn)


def test_a_folder_without_a_decision_says_what_to_do(scans, tmp_path):
    decide(scans["sub-02"], "rejected")
    with pytest.raises(CohortError, match=r"none accepted or corrected \(1 rejected.*strokelesion review"):
        read_labeled(tmp_path / "out")


@pytest.mark.parametrize("case", ["mask changed", "no manual mask", "scan changed", "scan gone"])
def test_what_a_decision_was_not_about_is_refused(scans, tmp_path, case):
    scan = scans["sub-02"]
    source = Path(tmp_path / "raw/sub-02/anat/sub-02_T1w.nii.gz")
    if case == "no manual mask":
        scan.correct(scan.version(scan.decision()), np.ones(SHAPE, np.uint8), "AB", "")
        scan.path(MANUAL_MASK).unlink()
        words = "its manual mask is gone"
    else:
        decide(scan, "accepted")
        words = "or has changed since it was segmented"
    if case == "mask changed":
        nib.save(nib.Nifti1Image(read_voxels(scan.mask), AFFINE), scan.mask)
        words = "its mask has changed since it was accepted"
    elif case == "scan changed":
        nib.save(nib.Nifti1Image(np.full(SHAPE, 9, np.uint8), AFFINE), source)
    elif case == "scan gone":
        source.unlink()
    with pytest.raises(UserError, match=words):
        read_labeled(tmp_path / "out")
