"""Outputs of new scans: the files that each option adds, their values, and that there are no others."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from dicom_files import write_series
from monai.data import MetaTensor
from small_result import AFFINE, ATLAS, SHAPE, is_bright, roi

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives import scan_images
from strokelesion.pipeline.derivatives.group_maps import COUNT
from strokelesion.pipeline.derivatives.outputs import OTHERS, OUTPUTS
from strokelesion.pipeline.derivatives.provenance import read_sidecar
from strokelesion.pipeline.derivatives.result_names import MASK, SIDECAR, name_scans
from strokelesion.pipeline.derivatives.scan_images import with_sidecar
from strokelesion.pipeline.finding.dicom import find_series
from strokelesion.pipeline.review.saving import find_reviewed, read_labels
from strokelesion.transforms.reading import load_volume

pytestmark = pytest.mark.usefixtures("no_doubts")
FOLDER = "out/sub-01/ses-b/anat"
# Files that a review leaves.
BY_REVIEW = ("review.tsv", "review_status.tsv", "review_sizes.tsv", "group/corrections.png")


def half_filled(image, lesions, _):
    """Stand in for `fill_lesions`: half of the value."""
    return MetaTensor(torch.where(lesions > 0, image.as_tensor() / 2, image.as_tensor()), affine=image.affine)


@pytest.mark.parametrize(
    ("wanted", "space", "names", "shape"),
    [
        ("mni", "MNI152NLin2009aSym", ("label-lesion_mask", "label-lesion_probseg", "seg-lesions_dseg"), (197, 233, 189)),
        (
            "fsl",
            "MNI152NLin6Asym",
            ("res-1_label-lesion_mask", "res-1_label-lesion_probseg", "seg-lesions_res-1_dseg"),
            (182, 218, 182),
        ),
    ],
)
def test_on_request_all_of_it_in_a_standard_space(results, item, name, outcome, tmp_path, wanted, space, names, shape):
    results(probabilities=True, **{wanted: True}).write(name, item, outcome)
    folder = tmp_path / FOLDER
    native = nib.load(folder / "sub-01_ses-b_label-lesion_probseg.nii.gz")
    assert np.asarray(native.dataobj).max() == pytest.approx(0.8)
    found = sorted(folder.glob("*space-*.nii.gz"))
    assert [path.name for path in found] == [f"sub-01_ses-b_space-{space}_{end}.nii.gz" for end in names]
    mask, probability, classes = map(nib.load, found)
    assert {mask.shape, probability.shape, classes.shape} == {shape}
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(classes.dataobj) > 0)
    inside = np.argwhere(np.asarray(mask.dataobj) == 1)
    center_mm = nib.affines.apply_affine(mask.affine, inside).mean(axis=0)
    # Voxel (4, 5, 3) is the center of the lesion.
    np.testing.assert_allclose(center_mm, [-16 + 30, 25 - 40, 18], atol=0.6)
    assert 2 < len(inside) / 1000 < 3.24  # interpolation rounds the corners of a block of 3.24 ml
    about = json.loads(Path(str(found[0]).replace(".nii.gz", ".json")).read_text())
    assert about["Description"].startswith("Affine registration to MNI152NLin2009aSym")
    assert about.get("Resolution") == ("1 mm" if "res-" in names[0] else None)


def test_on_request_the_brain_too(results, item, name, outcome, tmp_path):
    """It is drawn on the scan itself; the brain that the lesion network saw stays in the tables."""
    drawn = results(brain=is_bright)
    drawn.write(name, item, outcome)
    brain = nib.load(tmp_path / "out/sub-01/ses-b/anat/sub-01_ses-b_desc-brain_mask.nii.gz")
    assert brain.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(brain.affine, AFFINE)
    np.testing.assert_array_equal(np.asarray(brain.dataobj), is_bright(outcome["scan"])[0].numpy())
    (row,) = read_sidecar(drawn.path(name, SIDECAR))["Tables"]["volumes"]
    assert row["brain_ml"] == pytest.approx(outcome["scan_brain"].sum() * 0.12)


def test_a_brain_that_cannot_be_drawn_is_warned_of_and_costs_no_mask(results, item, name, outcome):
    def fail(_):
        raise UserError("found 3 ml of brain")

    done = results(brain=fail)
    done.write(name, item, outcome)
    assert done.path(name, MASK).exists()
    assert read_sidecar(done.path(name, SIDECAR))["Warnings"] == ["no brain mask was written: found 3 ml of brain"]


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_filled_scan_keeps_type_scale_and_all_other_stored_values(results, item, name, outcome, monkeypatch, tmp_path, scale):
    monkeypatch.setattr(scan_images, "fill_lesions", half_filled)
    stored = np.random.default_rng(0).integers(100, 900, SHAPE).astype(np.int16) * 2
    image = nib.Nifti1Image(stored, AFFINE)
    image.header.set_slope_inter(scale, 0)
    nib.save(image, item["image"])
    outcome["scan"] = load_volume(item["image"])
    done = results(filled=True)
    done.write(name, item, outcome)
    filled = nib.load(tmp_path / FOLDER / f"{name}_desc-lesionfilled_T1w.nii.gz")
    is_lesion = np.asarray(nib.load(done.path(name, MASK)).dataobj) > 0
    assert filled.get_data_dtype() == np.int16
    np.testing.assert_array_equal(filled.affine, AFFINE)
    np.testing.assert_array_equal(filled.dataobj.get_unscaled(), np.where(is_lesion, stored // 2, stored))
    np.testing.assert_allclose(np.asarray(filled.dataobj), np.where(is_lesion, stored / 2, stored) * scale)


def test_a_scan_that_cannot_be_filled_has_no_file_and_a_warning(results, item, name, outcome, tmp_path):
    done = results(register=None, filled=True)
    done.write(name, item, outcome)
    (warning,) = read_sidecar(done.path(name, SIDECAR))["Warnings"]
    assert warning.startswith("no filled scan was written: the lesions cannot be filled without the middle plane")
    assert not list((tmp_path / FOLDER).glob("*filled*"))


def test_the_table_of_rois_has_a_row_for_each_scan_and_roi(results, item, name, outcome, tmp_path):
    """The block of 27 voxels begins at voxel (3, 4, 2); half of the first ROI is in it."""
    done = results(rois=[roi((2, 4, 2), (2, 3, 3)), roi((0, 0, 0), (2, 1, 1))])
    done.write(name, item, outcome)
    done.gather([name], {})
    table = pd.read_csv(tmp_path / "out/rois.tsv", sep="\t")
    assert {*json.loads((tmp_path / "out/rois.json").read_text())} == {*table.columns}
    found = table[["scan", "roi_ml", "volume_ml", "roi_percent"]].to_numpy().tolist()
    assert found == [["sub-01_ses-b", 2.16, 1.08, 50.0], ["sub-01_ses-b", 0.24, 0.0, 0.0]]


def from_dicom(folder, outcome):
    """Return a scan of a DICOM series as `find_scans` lists it, and its outcome, on the same grid as other scans here."""
    series = write_series(folder, np.random.default_rng(0).integers(1, 900, SHAPE), spacing_mm=(4.0, 5.0, 6.0))
    ((found, image),), _ = find_series(series)
    scan = load_volume(image)
    return {"name": found, "image": image}, {"scan": scan} | {
        key: MetaTensor(outcome[key].as_tensor(), affine=scan.affine) for key in ("pred", "scan_brain")
    }


def test_a_dicom_segmentation_that_cannot_be_made_costs_no_mask(results, outcome, tmp_path):
    item, its_outcome = from_dicom(tmp_path / "in", outcome)
    item["image"] = dataclasses.replace(item["image"], files=item["image"].files[:-1])
    done = results(dicom="ab" * 32)
    (name,) = name_scans([item], tmp_path)
    done.write(name, item, its_outcome)
    (warning,) = read_sidecar(done.path(name, SIDECAR))["Warnings"]
    assert warning.startswith("no DICOM segmentation was written: the mask of")
    assert not list((tmp_path / "out").rglob("*.dcm"))


def test_with_all_outputs_there_are_the_listed_files_and_no_others_and_the_validator_is_content(
    results, item, name, outcome, tmp_path, monkeypatch
):
    """Also of a scan with `space` and `res`, whose files need more in their sidecars, and of a scan from DICOM."""
    monkeypatch.setattr(scan_images, "fill_lesions", half_filled)
    everything = dict.fromkeys((output.name for output in OUTPUTS if output.option), True)
    everything |= {"brain": is_bright, "regions": ATLAS, "rois": [roi((0, 0, 0), (2, 2, 2))], "dicom": "ab" * 32}
    everything["fmriprep"] = str(tmp_path / "overlay")
    done = results(**everything)
    other = {"image": item["image"].replace("ses-b_T1w", "ses-b_space-orig_res-1_T1w")}
    Path(other["image"]).write_bytes(Path(item["image"]).read_bytes())
    series, its_outcome = from_dicom(tmp_path / "in/dicom", outcome)
    scans = [item, other, series]
    names = name_scans(scans, tmp_path / "in")
    done.require_possible(scans)
    done.describe(scans)
    about = json.loads((tmp_path / "out/dataset_description.json").read_text())
    assert (about["DatasetType"], about["GeneratedBy"][0]["Name"]) == ("derivative", "strokelesion")
    for scan_name, scan in zip(names, scans, strict=True):
        done.write(scan_name, scan, its_outcome if scan is series else outcome)
    done.gather(names, {"bad.nii": "no T1"})
    expected = {path for output in OUTPUTS for scan_name in names for path in output.paths(done.folder, scan_name)}
    expected -= {Path(done.folder, f"dicom/{scan_name}_seg.dcm") for scan_name in names[:2]}
    expected |= {path for output in OUTPUTS for path in output.shared_paths(done.folder)}
    expected |= {Path(done.folder, file) for file in ("failures.json", *OTHERS)} - {
        Path(done.folder, file) for file in ("registrations", "inputs.tsv", *BY_REVIEW)
    }
    expected -= {Path(done.folder, file) for file in with_sidecar("corrections.tsv")}  # no mask was corrected
    assert {path for path in Path(done.folder).rglob("*") if path.is_file()} == expected
    assert sorted(str(path.relative_to(tmp_path / "overlay")) for path in (tmp_path / "overlay").rglob("*.*")) == [
        ".bidsignore",
        "sub-01/ses-b/anat/sub-01_ses-b_label-lesion_roi.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_space-orig_res-1_label-lesion_roi.nii.gz",
    ]
    page = (tmp_path / "out/index.html").read_text()
    assert all(
        words in page for words in ("<summary>Group</summary>", "<td>unknown</td><td>0</td><td></td>", "data:image/png;base64,")
    )
    assert pydicom.dcmread(tmp_path / f"out/dicom/{names[2]}_seg.dcm").pixel_array.sum() == 28
    assert np.asarray(nib.load(tmp_path / "out" / COUNT).dataobj).max() == 2
    corrected = find_reviewed(done.folder)[str(names[0])]
    corrected.correct(corrected.version(corrected.decision()), read_labels(corrected), "AB", "a note")
    validator = Path(sys.executable).with_name("bids-validator-deno")
    found = subprocess.run([validator, tmp_path / "out"], capture_output=True, text=True)
    assert "[ERROR]" not in found.stdout + found.stderr
    assert found.returncode == 0
    assert "2 - Subjects" in found.stdout + found.stderr


def test_what_earlier_settings_asked_for_does_not_stay_beside_new_masks(results, item, name, outcome):
    wanted = dict.fromkeys(("probabilities", "mni", "fsl", "filled", "pages", "group"), True)
    for done in (results(brain=is_bright, regions=ATLAS, rois=[roi((0, 0, 0), (2, 2, 2))], **wanted), results()):
        done.write(name, item, outcome)
        done.gather([name], {})
    (required, *optional) = OUTPUTS
    assert all(path.exists() for path in (*required.paths(done.folder, name), *required.shared_paths(done.folder)))
    for output in optional:
        assert not [path for path in (*output.paths(done.folder, name), *output.shared_paths(done.folder)) if path.exists()]


def test_what_is_made_of_finished_results_does_not_decide_whether_a_scan_is_done(results, tmp_path):
    assert results(mni=True, fmriprep=str(tmp_path), group=True).asked == results(mni=True).asked
    assert results(mni=True, filled=True).asked != results(mni=True).asked


def test_an_unknown_output_is_a_mistake_in_the_bundle(results):
    with pytest.raises(ValueError, match="outputs maps"):
        _ = results(maps=True).asked
