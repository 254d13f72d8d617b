"""Decisions and corrected masks on disk: what is written, on which grid, and what an older version may do."""

import hashlib
import json

import nibabel as nib
import numpy as np
import pytest
from drawn_scan import SHAPE
from refusals import refusal
from reviewed_folder import AFFINES, contents, the_scan, write_reviewed

from strokelesion.pipeline.derivatives.result_names import CLASSES_MAP, MASK
from strokelesion.pipeline.review.decisions import Decision, locked_for_saving, read_decisions, write_decision
from strokelesion.pipeline.review.saving import (
    MANUAL_CLASSES,
    MANUAL_MASK,
    OutdatedError,
    find_reviewed,
    read_labels,
    read_voxels,
)


@pytest.fixture
def folder(tmp_path):
    return write_reviewed(tmp_path / "out")


def labels_with(*boxes):
    labels = np.zeros(SHAPE, np.uint8)
    for label, *box in boxes:
        labels[tuple(slice(*side) for side in box)] = label
    return labels


DRAWN = labels_with((1, (3, 9), (5, 6), (7, 12)), (2, (20, 22), (30, 33), (1, 2)))


def correct(scan, labels=DRAWN, note=""):
    scan.correct(scan.version(scan.decision()), labels, "AB", note)


@pytest.mark.parametrize("axes", AFFINES)
def test_a_manual_mask_is_on_the_grid_of_the_automatic_one_which_stays(axes, tmp_path):
    folder = write_reviewed(tmp_path / "out", [axes])
    before, scan = contents(folder), the_scan(folder, f"sub-{axes}")
    correct(scan)
    for file, voxels, automatic in ((MANUAL_MASK, DRAWN > 0, MASK), (MANUAL_CLASSES, DRAWN, CLASSES_MAP)):
        np.testing.assert_array_equal(read_voxels(scan.path(file)), voxels)
        assert nib.load(scan.path(file)).header == nib.load(scan.path(automatic)).header
    np.testing.assert_array_equal(read_labels(scan), DRAWN)
    added = {path.name for path in contents(folder).keys() - before.keys()}
    ends = ("label-lesion_desc-manual_mask", "seg-lesions_desc-manual_dseg")
    of_scan = {f"sub-{axes}_{end}.{kind}" for end in ends for kind in ("nii.gz", "json")}
    assert added == {*of_scan, "review.tsv", "review.json"}
    assert {path: content for path, content in contents(folder).items() if path in before} == before


def test_the_sidecar_says_who_when_and_from_what(folder):
    scan = the_scan(folder)
    correct(scan)
    for file in (MANUAL_MASK, MANUAL_CLASSES):
        about = json.loads(scan.path(file.replace(".nii.gz", ".json")).read_text())
        assert about["Manual"] is True
        assert about["Annotator"] == "AB"
        assert about["AutomaticSHA256"] == hashlib.sha256(scan.path(MASK).read_bytes()).hexdigest()
        assert about["Date"] <= scan.decision().date
        assert about["Sources"][1] == "bids::sub-RAS/anat/sub-RAS_label-lesion_mask.nii.gz"


def test_a_decision_is_about_the_mask_of_record_and_an_accepted_manual_mask_is_a_corrected_one(folder):
    scan = the_scan(folder)
    assert scan.decision() == Decision()
    for status, mask in (("accepted", MASK), ("corrected", MANUAL_MASK)):
        scan.decide(scan.version(scan.decision()), "accepted", "AB", "a note")
        decided = read_decisions(folder)["sub-RAS"]
        assert (decided.status, decided.initials, decided.note) == (status, "AB", "a note")
        assert decided.mask_sha256 == hashlib.sha256(scan.path(mask).read_bytes()).hexdigest()
        correct(scan)


@pytest.mark.parametrize("change", ["decision", "mask", "mask of another program"])
def test_a_save_of_an_older_version_is_refused_and_changes_nothing(change, folder):
    scan = the_scan(folder)
    old = scan.version(scan.decision())
    if change == "decision":
        scan.decide(old, "rejected", "CD", "")
    elif change == "mask":
        scan.correct(old, DRAWN, "CD", "")
    else:
        scan.path(MANUAL_MASK).write_bytes(scan.path(MASK).read_bytes())
    before = contents(folder)
    for save in (lambda: scan.decide(old, "accepted", "AB", ""), lambda: scan.correct(old, DRAWN, "AB", "")):
        with pytest.raises(OutdatedError, match="sub-RAS was changed elsewhere"):
            save()
    assert contents(folder) == before


def test_the_mask_counts_and_the_classes_follow_it(folder):
    """As after a save that was killed between the two files, or an edit in a program that knows no classes."""
    scan = the_scan(folder)
    correct(scan)
    mask = labels_with((1, (3, 9), (5, 6), (7, 12)), (1, (31, 32), (12, 13), (28, 30)), (1, (40, 41), (1, 2), (1, 2)))
    nib.save(nib.Nifti1Image(mask, AFFINES["RAS"]), scan.path(MANUAL_MASK))
    expected = labels_with((1, (3, 9), (5, 6), (7, 12)), (2, (31, 32), (12, 13), (28, 30)), (1, (40, 41), (1, 2), (1, 2)))
    np.testing.assert_array_equal(read_labels(scan), expected)


def test_rows_of_other_scans_stay_and_notes_with_any_characters_come_back(tmp_path):
    notes = {"sub-1": 'a "quoted" note', "sub-2": "", "sub-3": "größer, 三; 'x'"}
    for scan, note in notes.items():
        write_decision(tmp_path, scan, Decision("rejected", "AB", "2026-01-02T03:04:05+00:00", note, "0" * 64))
    assert {scan: decided.note for scan, decided in read_decisions(tmp_path).items()} == notes
    assert "n/a" in (tmp_path / "review.tsv").read_text().splitlines()[2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scan\tstatus\nsub-1\taccepted\n", "has no date, initials, mask_sha256, note in line 2"),
        ("scan\tstatus\tinitials\tdate\tnote\tmask_sha256\nsub-1\tfine\tAB\tn/a\tn/a\tn/a\n", "has the status fine in line 2"),
    ],
)
def test_a_damaged_table_is_named_with_the_line(text, words, tmp_path):
    (tmp_path / "review.tsv").write_text(text)
    assert words in refusal(read_decisions, tmp_path)


def test_a_folder_without_results_is_refused(tmp_path):
    assert "has no volumes.tsv" in refusal(find_reviewed, tmp_path)
    (tmp_path / "volumes.tsv").write_text("scan\n../../etc\nsub-1\n")
    assert "has no mask of a scan" in refusal(find_reviewed, tmp_path)


def test_saves_wait_where_there_are_locks_and_work_where_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fcntl", None)
    with locked_for_saving(tmp_path):
        write_decision(tmp_path, "sub-1", Decision())
    assert read_decisions(tmp_path) == {"sub-1": Decision()}
