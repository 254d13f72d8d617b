"""Corrected masks of any program become the masks of record: everything that is made of a mask is made of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from dicom_files import write_series
from drawn_files import PROGRAMS, write_of_255
from monai.data import MetaTensor
from small_result import AFFINE, SHAPE

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.manual_masks import MANUAL_SIDECAR, OTHER_START
from strokelesion.pipeline.derivatives.page_volumes import kept_percent
from strokelesion.pipeline.derivatives.provenance import read_sidecar
from strokelesion.pipeline.derivatives.result_names import CLASSES_MAP, MANUAL_CLASSES, MANUAL_MASK, MASK, SIDECAR, name_scans
from strokelesion.pipeline.derivatives.scan_images import FILLED
from strokelesion.pipeline.finding.dicom import find_series
from strokelesion.pipeline.lesions.roi_loads import read_rois
from strokelesion.pipeline.review.decisions import Decision, read_decisions
from strokelesion.pipeline.review.remeasuring import measure_corrected
from strokelesion.pipeline.review.saving import find_reviewed, read_voxels
from strokelesion.transforms import filling
from strokelesion.transforms.reading import load_volume

pytestmark = pytest.mark.usefixtures("no_doubts")
NAME = "sub-01_ses-b"
MNI_MASK = "space-MNI152NLin2009aSym_label-lesion_mask.nii.gz"


def table(out, name):
    return pd.read_csv(out / f"{name}.tsv", sep="\t")


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def labels(outcome):
    """A correction: the main lesion moves by one voxel, the sub-lesion grows, one is new and one is gone."""
    outcome["pred"][:, 1, 1, 1] = torch.tensor([0.1, 0.8, 0.1])
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[4:7, 4:7, 2:5] = 1
    drawn[9, 10, 7:9] = 2
    drawn[7:9, 1:3, 6:9] = 1
    return drawn


@pytest.fixture
def out(results, item, name, outcome, labels, tmp_path, request):
    """The results of one scan, with outputs that are made of its mask; the parameter has further ones."""
    (tmp_path / "rois").mkdir()
    left = np.zeros((40, 50, 40), np.float32)
    left[:25] = 0.5
    nib.save(
        nib.Nifti1Image(left, np.array([[-5.0, 0, 0, 98], [0, 5, 0, -134], [0, 0, 5, -72], [0, 0, 0, 1]])),
        tmp_path / "rois/l.nii",
    )
    wanted = {"probabilities": True, "rois": read_rois(tmp_path / "rois"), **getattr(request, "param", {})}
    done = results(**wanted)
    done = replace(done, options={"rois": tmp_path / "rois", "atlas": None, "for_fmriprep": tmp_path / "overlay"})
    done.describe([item])
    done.write(name, item, outcome)
    done.gather([name], {"bad.nii": "no T1"})
    return Path(done.folder)


def correct(out, labels, initials="AB"):
    """Save a correction as the page does."""
    scan = find_reviewed(out)[NAME]
    scan.correct(scan.version(scan.decision()), labels, initials, "")
    return scan


@pytest.mark.parametrize("out", [{"mni": True, "pages": True, "group": True}], indirect=True)
def test_everything_made_of_the_mask_is_made_of_the_corrected_one(out, labels, results, name):
    before, automatic = content(out), table(out, "volumes")
    scan = correct(out, labels)
    measure_corrected(out)
    (row,) = table(out, "volumes").to_dict("records")
    assert (row["mask"], row["lesions"], automatic["mask"][0]) == ("manual", 3, "automatic")
    assert row["total_ml"] == pytest.approx((27 + 2 + 12) * 0.12)
    assert row["sub_ml"] == pytest.approx(2 * 0.12)
    assert row["brain_ml"] == automatic["brain_ml"][0]
    lesions = table(out, "lesions")
    assert lesions["class"].tolist() == ["main", "main", "sub"]
    assert lesions["mean_probability"].tolist() == pytest.approx([(18 * 0.8 + 9 * 0.02) / 27, 0.02, (0.6 + 0.02) / 2], abs=1e-6)
    (change,) = table(out, "corrections").to_dict("records")
    wanted = {"automatic_ml": 29 * 0.12, "manual_ml": 41 * 0.12, "added_ml": 22 * 0.12, "removed_ml": 10 * 0.12}
    wanted |= {"changed_ml": 32 * 0.12, "dice": 2 * 19 / 70, "missed": 1, "false": 1}
    assert {key: change[key] for key in wanted} == pytest.approx(wanted)
    assert change["initials"] == "AB"
    in_mni = np.asarray(nib.load(scan.path(MNI_MASK)).dataobj)
    assert 3.5 < in_mni.sum() / 1000 < 5.5
    assert read_sidecar(scan.path(MNI_MASK.replace(".nii.gz", ".json")))["Manual"] is True
    overlay = out.parent / f"overlay/sub-01/ses-b/anat/{NAME}_label-lesion_roi.nii.gz"
    np.testing.assert_array_equal(read_voxels(overlay), labels > 0)
    after = content(out)
    for file in (MASK, SIDECAR, CLASSES_MAP, "label-lesion_probseg.nii.gz"):  # automatic
        key = str(scan.path(file).relative_to(out))
        assert after[key] == before[key]
    changed = {key.rpartition("/")[2] for key in before if before[key] != after[key]}
    assert changed >= {"index.html", "lesions.tsv", "rois.tsv", "incidence.png", f"{NAME}.html", f"{NAME}_{MNI_MASK}"}
    assert table(out, "failures").to_numpy().tolist() == [["bad.nii", "no T1"]]
    assert "<summary>Review:" in after["index.html"].decode()
    assert " 3 lesions, corrected" in after["index.html"].decode()


@pytest.mark.parametrize("out", [{"pages": True, "probabilities": False}], indirect=True)
def test_without_probabilities_the_page_keeps_its_own_and_the_table_has_none(out, labels):
    page = out / f"pages/{NAME}.html"
    before = kept_percent(page, SHAPE)
    correct(out, labels)
    measure_corrected(out)
    np.testing.assert_array_equal(kept_percent(page, SHAPE), before)
    assert before[5, 5, 3] == 80
    assert table(out, "lesions")[["mean_probability", "peak_y_mm"]].isna().all(axis=None)


def test_the_report_counts_decisions_and_lesions_by_size(out, labels):
    correct(out, labels)
    measure_corrected(out)
    status = table(out, "review_status").set_index("status")
    assert status["scans"].to_dict() == {"pending": 0, "accepted": 0, "corrected": 1, "rejected": 0}
    assert status.loc["corrected", ["automatic_ml", "record_ml", "changed_ml"]].tolist() == pytest.approx([3.48, 4.92, 3.84])
    sizes = table(out, "review_sizes").set_index("size_ml")
    assert sizes.loc["0.1 to 1"].tolist() == [1, 0, 1]
    assert sizes.loc["1 to 10"].tolist() == [2, 1, 0]


@pytest.mark.parametrize("write", PROGRAMS, ids=lambda write: write.__name__.removeprefix("write_"))
def test_masks_of_other_programs_give_what_the_page_gives(out, labels, tmp_path, write):
    theirs = Path(shutil.copytree(out, tmp_path / "theirs"))
    ours = correct(out, labels)
    measure_corrected(out)
    (tmp_path / "masks").mkdir()
    write(labels, AFFINE, tmp_path / "masks", f"{NAME}_T1w")
    measure_corrected(theirs, tmp_path / "masks")
    for name in ("volumes", "lesions", "rois", "review_sizes"):
        pd.testing.assert_frame_equal(table(theirs, name), table(out, name))
    scan = find_reviewed(theirs)[NAME]
    for file in (MANUAL_MASK, MANUAL_CLASSES):
        np.testing.assert_array_equal(read_voxels(scan.path(file)), read_voxels(ours.path(file)))
    assert read_decisions(theirs)[NAME].status == "corrected"
    about = read_sidecar(scan.path(MANUAL_SIDECAR))
    assert about["Sources"][1].startswith((tmp_path / "masks").as_uri())


def test_masks_dropped_into_the_folder_are_brought_to_the_grid_of_the_scan(out, labels, tmp_path):
    (tmp_path / "masks").mkdir()
    write_of_255(labels, AFFINE, tmp_path / "masks", f"{NAME}_T1w")
    (drawn,) = (tmp_path / "masks").iterdir()
    scan = find_reviewed(out)[NAME]
    shutil.copy(drawn, scan.path(MANUAL_MASK))
    measure_corrected(out)
    np.testing.assert_array_equal(read_voxels(scan.path(MANUAL_MASK)), labels > 0)
    np.testing.assert_array_equal(read_voxels(scan.path(MANUAL_CLASSES)), labels)
    first = content(out)
    measure_corrected(out)  # nothing is left to do
    assert {key for key, known in content(out).items() if known != first[key]} <= {".lock"}


def test_an_unchanged_mask_changes_no_number(out):
    lesions = table(out, "lesions")
    correct(out, read_voxels(find_reviewed(out)[NAME].path(CLASSES_MAP)))
    measure_corrected(out)
    pd.testing.assert_frame_equal(table(out, "lesions"), lesions)
    assert table(out, "corrections")[["dice", "changed_ml"]].to_numpy().tolist() == [[1.0, 0.0]]


def test_segmenting_again_keeps_the_correction(out, labels, results, item, name, outcome, caplog):
    correct(out, labels)
    measure_corrected(out)
    measured = {file: known for file, known in content(out).items() if file.endswith(".tsv")}
    done = results(probabilities=True, rois=read_rois(out.parent / "rois"))
    assert done.is_done(name, item)
    done.gather([name], {"bad.nii": "no T1"})
    assert "not in the tables" not in caplog.text
    after = content(out)
    assert {file: after[file] for file in measured if file in after} == {k: v for k, v in measured.items() if k in after}
    for change in (False, True):
        if change:
            outcome["pred"][:, 1, 1, 2] = torch.tensor([0.1, 0.8, 0.1])
        done.write(name, item, outcome)
        done.gather([name], {})
        (row,) = table(out, "volumes").to_dict("records")
        assert (row["mask"], row["lesions"]) == ("manual", 3)
        assert (OTHER_START in str(row["warnings"])) == change
    np.testing.assert_array_equal(read_voxels(find_reviewed(out)[NAME].path(MANUAL_CLASSES)), labels)
    correct(out, np.roll(labels, 1))
    done.gather([name], {})
    assert f"Measure them: strokelesion measure {out}" in caplog.text


def test_a_scan_from_dicom_gets_a_segmentation_and_a_filled_scan_of_the_corrected_mask(results, outcome, tmp_path, monkeypatch):
    # Noise has no mirror image that a registration could find.
    monkeypatch.setattr(filling, "align", lambda fixed, moving, start, *_: start)
    series = write_series(tmp_path / "raw/dicom", np.random.default_rng(0).integers(1, 900, SHAPE), spacing_mm=(4.0, 5.0, 6.0))
    ((found, image),), _ = find_series(series)
    item, scan = {"name": found, "image": image}, load_volume(image)
    its_outcome = {key: MetaTensor(outcome[key].as_tensor(), affine=scan.affine) for key in ("pred", "scan_brain")}
    done = results(dicom="ab" * 32, filled=True)
    (name,) = name_scans([item], tmp_path)
    done.describe([item])
    done.write(name, item, {"scan": scan, **its_outcome})
    done.gather([name], {})
    (reviewed,) = find_reviewed(tmp_path / "out").values()
    drawn = read_voxels(reviewed.path(CLASSES_MAP)).copy()
    drawn[0, 0, :4] = 1
    reviewed.correct(reviewed.version(Decision()), drawn, "AB", "")
    measure_corrected(tmp_path / "out")
    segmentation = pydicom.dcmread(tmp_path / f"out/dicom/{name}_seg.dcm")
    assert segmentation.pixel_array.sum() == (drawn > 0).sum() == 32
    assert segmentation.SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"
    filled, stored = (nib.load(reviewed.path(FILLED)), scan[0].numpy())
    assert ((np.asarray(filled.dataobj) != stored) <= (drawn > 0)).all()
    assert (np.asarray(filled.dataobj) != stored)[0, 0, :4].any()
    assert read_sidecar(reviewed.path(FILLED.replace(".nii.gz", ".json")))["Manual"] is True


def shifted(labels, folder):
    far = AFFINE.copy()
    far[:3, 3] += 10
    write_of_255(labels, far, folder, f"{NAME}_T1w")


def of_another_place(labels, folder):
    far = AFFINE / 2 + np.array([[0, 0, 0, 30], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0.5]])
    write_of_255(labels, far, folder, f"{NAME}_T1w")


def beside_the_scan(labels, folder):
    around = AFFINE @ nib.affines.from_matvec(np.eye(3), [-9, -9, -9])
    write_of_255(np.roll(np.pad(labels, 9), 10, axis=0), around, folder, f"{NAME}_T1w")


def gray(labels, folder):
    nib.save(nib.Nifti1Image(labels * np.float32(0.3), AFFINE), folder / f"{NAME}_T1w.nii")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (shifted, "another grid 17.3 mm from that of"),
        (of_another_place, "covers only 0% of the field of view of"),
        (beside_the_scan, "has only 0% of its lesion inside"),
        (gray, "not two-valued"),
    ],
)
def test_a_mask_of_another_scan_is_refused_and_nothing_is_lost(out, labels, tmp_path, write, words, caplog):
    before = content(out)
    (tmp_path / "masks").mkdir()
    write(labels, tmp_path / "masks")
    with pytest.raises(SystemExit):
        measure_corrected(out, tmp_path / "masks")
    assert words in caplog.text
    assert str(tmp_path / "masks") in caplog.text
    after = content(out)
    assert {file for file in before if before[file] != after[file]} <= {".lock"}
    assert not find_reviewed(out)[NAME].has_manual


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["sub-02_label-lesion_mask.nii.gz"], "belong to no scan"),
        ([f"{NAME}_space-MNI152NLin2009aSym_label-lesion_mask.nii.gz"], "belong to no scan"),
        ([f"{NAME}_T1w.nii", f"{NAME}_T1w-label.nii"], "have several masks"),
        ([], "holds no masks"),
    ],
)
def test_masks_whose_scan_is_unknown_are_named(out, labels, tmp_path, files, words):
    (tmp_path / "masks").mkdir()
    for file in files:
        nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "masks" / file)
    with pytest.raises(UserError, match=words):
        measure_corrected(out, tmp_path / "masks")


def test_one_manual_mask_replaces_another_only_on_demand(out, labels, tmp_path, caplog):
    scan = correct(out, labels)
    (tmp_path / "masks").mkdir()
    write_of_255(np.roll(labels, 1), AFFINE, tmp_path / "masks", f"{NAME}_T1w")
    with pytest.raises(SystemExit):
        measure_corrected(out, tmp_path / "masks")
    assert "expected one manual mask" in caplog.text
    np.testing.assert_array_equal(read_voxels(scan.path(MANUAL_CLASSES)), labels)
    measure_corrected(out, tmp_path / "masks", overwrite=True)
    np.testing.assert_array_equal(read_voxels(scan.path(MANUAL_MASK)), np.roll(labels, 1) > 0)


def test_what_is_gone_is_named(out, labels, item, tmp_path, caplog):
    scan = correct(out, labels)
    (tmp_path / "rois").rename(tmp_path / "moved")
    with pytest.raises(UserError, match="Give --rois"):
        measure_corrected(out)
    measure_corrected(out, rois=tmp_path / "moved")
    scan.path(MANUAL_MASK).unlink()
    with pytest.raises(SystemExit):
        measure_corrected(out, rois=tmp_path / "moved")
    assert "its manual mask is gone" in caplog.text
    correct(out, labels)
    Path(item["image"]).unlink()
    with pytest.raises(SystemExit):
        measure_corrected(out, rois=tmp_path / "moved")
    assert "is gone; expected the scan that was segmented" in caplog.text


def test_a_scan_without_settings_is_named(out, labels):
    correct(out, labels).path(SIDECAR).unlink()
    with pytest.raises(UserError, match="have other settings than the first, or none:\n  sub-01_ses-b"):
        measure_corrected(out)


def test_a_rejected_scan_stays_rejected(out, labels):
    scan = correct(out, labels)
    scan.decide(scan.version(scan.decision()), "rejected", "CD", "moved")
    measure_corrected(out)
    assert read_decisions(out)[NAME] == Decision("rejected", "CD", scan.decision().date, "moved", scan.decision().mask_sha256)
    assert json.loads((out / "review_status.json").read_text()).keys() == {*table(out, "review_status").columns}
