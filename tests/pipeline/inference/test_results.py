"""Results of new scans: the files of each scan, scans that are done already, and the tables of all scans."""

import hashlib
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import MetaTensor

from strokelesion.networks import UserError
from strokelesion.pipeline.inference.lesion_table import COLUMNS, Atlas
from strokelesion.pipeline.inference.result_names import name_scans
from strokelesion.pipeline.inference.results import NOT_PLACED, Results, read_sidecar, sha256_of_scan
from strokelesion.transforms import DecideLesionsd
from strokelesion.transforms.registration import Registration

SHAPE = (12, 14, 10)
AFFINE = np.diag([-4.0, 5.0, 6.0, 1.0])
SHIFT = np.eye(4)
SHIFT[:3, 3] = (30, -40, 0)


def is_bright(scan):
    return scan > 0.5


@pytest.fixture(autouse=True)
def no_doubts(monkeypatch):
    """The boxes of these tests are no brains; `test_plausibility.py` judges images."""
    monkeypatch.setattr("strokelesion.pipeline.inference.results.doubts_of_image", lambda *_: [])


@pytest.fixture
def item(tmp_path):
    path = tmp_path / "in/sub-01/ses-b/anat/sub-01_ses-b_T1w.nii"
    path.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE), path)
    return {"image": str(path)}


@pytest.fixture
def name(item, tmp_path):
    return name_scans([item], tmp_path)[0]


@pytest.fixture
def outcome():
    probability = torch.full((3, *SHAPE), 0.01)
    probability[0] = 0.98
    probability[:, 3:6, 4:7, 2:5] = torch.tensor([0.2, 0.7, 0.1])[:, None, None, None]
    probability[:, 9, 10, 8] = torch.tensor([0.4, 0.1, 0.5])
    affine = torch.from_numpy(AFFINE)
    brain = torch.ones(1, *SHAPE)
    return {
        "pred": MetaTensor(probability, affine=affine),
        "scan": MetaTensor(torch.rand(1, *SHAPE), affine=affine),
        "scan_brain": MetaTensor(brain, affine=affine),
    }


@pytest.fixture
def results(tmp_path):
    """Results whose registration is known."""

    def make(**wanted):
        settings = {"weights": "w", "decision": {"threshold": 0.5}}
        return Results(
            **{
                "folder": str(tmp_path / "out"),
                "settings": settings,
                "decide": DecideLesionsd("pred"),
                "register": lambda *_: Registration(SHIFT, 0.9),
                "pages": False,
                **wanted,
            }
        )

    return make


def test_a_scan_leaves_a_mask_on_its_grid_and_a_sidecar_that_says_how(results, item, name, outcome, tmp_path):
    done = results()
    done.write(name, item, outcome)
    files = ["sub-01_ses-b_label-lesion_mask.json", "sub-01_ses-b_label-lesion_mask.nii.gz"]
    assert sorted(path.name for path in (tmp_path / "out/sub-01/ses-b/anat").iterdir()) == files
    mask = nib.load(done.path(name, "mask.nii.gz"))
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, AFFINE)
    assert np.bincount(np.asarray(mask.dataobj).ravel()).tolist() == [int(np.prod(SHAPE)) - 28, 27, 1]
    sidecar = read_sidecar(done.path(name, "mask.json"))
    expected = {"Labels": {"1": "main lesion", "2": "sub-lesion"}, "Sources": [item["image"]], "Warnings": []}
    expected |= {"ToMNI152NLin2009aSym": SHIFT.tolist(), "Settings": done.asked}
    assert {key: sidecar[key] for key in expected} == expected
    assert done.asked["weights"] == "w"


def test_on_request_probabilities_and_all_of_it_in_mni_space(results, item, name, outcome, tmp_path):
    results(probabilities=True, in_mni=True).write(name, item, outcome)
    folder = tmp_path / "out/sub-01/ses-b/anat"
    native = nib.load(folder / "sub-01_ses-b_label-lesion_probseg.nii.gz")
    assert np.asarray(native.dataobj).max() == pytest.approx(0.8)
    there = [nib.load(path) for path in sorted(folder.glob("*space-MNI152NLin2009aSym_label-lesion_*.nii.gz"))]
    assert [volume.shape for volume in there] == [(197, 233, 189)] * 2
    inside = np.argwhere(np.asarray(there[0].dataobj) == 1)
    center_mm = nib.affines.apply_affine(there[0].affine, inside).mean(axis=0)
    # Voxel (4, 5, 3) is the center of the lesion.
    np.testing.assert_allclose(center_mm, [-16 + 30, 25 - 40, 18], atol=0.6)
    assert 2 < len(inside) / 1000 < 3.24  # interpolation rounds the corners of a block of 3.24 ml


def test_on_request_the_brain_too(results, item, name, outcome, tmp_path):
    """It is drawn on the scan itself; the brain that the lesion network saw stays in the tables."""
    drawn = results(draw_brain=is_bright)
    drawn.write(name, item, outcome)
    brain = nib.load(tmp_path / "out/sub-01/ses-b/anat/sub-01_ses-b_desc-brain_mask.nii.gz")
    assert brain.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(brain.affine, AFFINE)
    np.testing.assert_array_equal(np.asarray(brain.dataobj), is_bright(outcome["scan"])[0].numpy())
    (row,) = read_sidecar(drawn.path(name, "mask.json"))["Tables"]["volumes"]
    assert row["brain_ml"] == pytest.approx(outcome["scan_brain"].sum() * 0.12)


def test_a_brain_that_cannot_be_drawn_is_warned_of_and_costs_no_mask(results, item, name, outcome):
    def fail(_):
        raise UserError("found 3 ml of brain")

    done = results(draw_brain=fail)
    done.write(name, item, outcome)
    assert done.path(name, "mask.nii.gz").exists()
    assert read_sidecar(done.path(name, "mask.json"))["Warnings"] == ["no brain mask was written: found 3 ml of brain"]


@pytest.mark.parametrize("knows_left", [True, False])
def test_sides_are_told_only_if_the_scan_tells_them(results, item, name, outcome, tmp_path, knows_left):
    code = int(knows_left)
    scan = nib.load(item["image"])
    scan.set_qform(AFFINE, code)
    scan.set_sform(AFFINE, code)
    nib.save(scan, item["image"])
    atlas = Atlas(np.ones((3, 3, 3), dtype=np.int64), np.diag([400.0, 400, 400, 1]), {1: "left"})
    done = results(atlas=atlas, pages=True, in_mni=True)
    done.write(name, item, outcome)
    done.gather([name], {})
    lesions, volumes, regions = (pd.read_csv(tmp_path / f"out/{table}.tsv", sep="\t") for table in COLUMNS)
    sided = [*lesions[["hemisphere", "centroid_x_mm", "peak_x_mm"]].iloc[0], *volumes[["left_ml", "right_ml"]].iloc[0]]
    assert [pd.notna(value) for value in sided] == [knows_left] * 5
    assert lesions["centroid_y_mm"].notna().all()
    assert len(regions) == (knows_left and len(lesions) // 2)
    assert ("which side is left" in str(volumes["warnings"][0])) == (not knows_left)
    page = (tmp_path / f"out/pages/{name}.html").read_text()
    assert ("isOrientationTextVisible: true" in page) == knows_left
    assert ("which side is left" in page) == (not knows_left)
    mask = nib.load(done.path(name, "mask.nii.gz"))
    assert (mask.header["qform_code"], mask.header["sform_code"]) == (code, code)
    in_mni = nib.load(done.path(name, "mask.nii.gz", "MNI152NLin2009aSym")).header
    assert (in_mni["qform_code"], in_mni["sform_code"]) == (4, 4)


def test_what_is_done_is_not_done_again_unless_the_scan_or_the_settings_changed(results, item, name, outcome):
    atlases = (Atlas(np.ones((3, 3, 3), dtype=np.int64), np.eye(4), {1: region}) for region in ("all", "none"))
    first, other_atlas = (results(atlas=atlas) for atlas in atlases)
    assert not first.is_done(name, item)
    first.write(name, item, outcome)
    assert first.is_done(name, item)
    others = [{"overwrite": True}, {"probabilities": True}, {"draw_brain": is_bright}, {"settings": {"weights": "others"}}]
    others = [results(atlas=first.atlas, **wanted) for wanted in others]
    assert not any(other.is_done(name, item) for other in (*others, other_atlas, results()))
    with open(item["image"], "ab") as file:
        file.write(b"!")
    assert not first.is_done(name, item)


@pytest.mark.parametrize("damage", [lambda path: path("mask.json").write_text("{"), lambda path: path("mask.nii.gz").unlink()])
def test_a_lost_mask_or_a_damaged_sidecar_is_made_again(results, item, name, outcome, damage):
    done = results()
    done.write(name, item, outcome)
    damage(partial(done.path, name))
    assert not done.is_done(name, item)


def test_a_scan_is_known_by_all_its_files(tmp_path):
    header, voxels = tmp_path / "scan.hdr", tmp_path / "scan.img"
    header.write_bytes(b"header")
    alone = sha256_of_scan({"image": str(header)})
    voxels.write_bytes(b"voxels")
    assert sha256_of_scan({"image": str(header)}) == hashlib.sha256(b"headervoxels").hexdigest() != alone


def test_tables_gather_all_scans_and_failures_say_why(results, item, name, outcome, tmp_path):
    atlas = Atlas(np.ones((3, 3, 3), dtype=np.int64), np.diag([400.0, 400, 400, 1]), {1: "all"})
    done = results(atlas=atlas)
    done.write(name, item, outcome)
    done.gather([name], {"bad.nii": "no T1"})
    tables = {table: pd.read_csv(tmp_path / f"out/{table}.tsv", sep="\t", dtype={"subject": str}) for table in COLUMNS}
    for table, columns in COLUMNS.items():
        assert tuple(tables[table].columns) == ("subject", "session", "scan", *columns)
        assert tables[table]["scan"].unique().tolist() == ["sub-01_ses-b"]
    assert tables["lesions"]["class"].tolist() == ["main", "sub"]
    assert tables["lesions"]["volume_ml"].tolist() == pytest.approx([3.24, 0.12])
    assert tables["volumes"]["total_ml"].tolist() == pytest.approx([3.36])
    assert tables["regions"]["volume_ml"].tolist() == pytest.approx([3.36])
    failures = pd.read_csv(tmp_path / "out/failures.tsv", sep="\t")
    assert failures.to_dict("records") == [{"scan": "bad.nii", "reason": "no T1"}]


def test_results_of_other_settings_are_in_no_table(results, item, name, outcome, tmp_path):
    """A scan that fails with new settings still has its old mask."""
    results().write(name, item, outcome)
    results(settings={"weights": "others"}).gather([name], {item["image"]: "no T1"})
    assert pd.read_csv(tmp_path / "out/volumes.tsv", sep="\t").empty


def test_where_the_registration_fails_there_are_volumes_and_a_warning(results, item, name, outcome, tmp_path):
    def fail(*_):
        raise UserError("the registration to MNI space failed")

    done = results(in_mni=True, register=fail)
    done.write(name, item, outcome)
    done.gather([name], {})
    row = pd.read_csv(tmp_path / "out/volumes.tsv", sep="\t").iloc[0]
    assert row["warnings"] == "the registration to MNI space failed"
    assert np.isnan(row["left_ml"])
    assert row["total_ml"] == pytest.approx(3.36)
    assert not list((tmp_path / "out").rglob("*space-*"))


def test_a_fault_of_the_registration_is_no_warning(results, item, name, outcome):
    done = results(register=lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        done.write(name, item, outcome)
    assert not done.is_done(name, item)


@pytest.mark.parametrize(("earlier", "warnings"), [(SHIFT, []), (np.full((4, 4), np.nan), [NOT_PLACED])])
def test_a_registration_knows_the_lesions_and_where_the_scan_was_brought_to(results, item, name, outcome, earlier, warnings):
    outcome["scan_to_mni"] = torch.from_numpy(earlier)
    seen = []
    done = results(register=lambda *given: seen.extend(given[2:]) or Registration(SHIFT, 0.9))
    done.write(name, item, outcome)
    assert read_sidecar(done.path(name, "mask.json"))["Warnings"] == warnings
    assert int(seen[0].sum()) == 28
    assert seen[1] is None if warnings else np.array_equal(seen[1], SHIFT)


def test_more_lesion_than_there_can_be_is_warned_of(results, item, name, outcome, tmp_path):
    outcome["pred"][:, :8] = torch.tensor([0.1, 0.9, 0.0])[:, None, None, None]
    done = results()
    done.write(name, item, outcome)
    sidecar = read_sidecar(done.path(name, "mask.json"))
    assert "35% of the brain is called lesion" in sidecar["Warnings"][0]


def test_the_data_set_says_what_it_is_and_passes_the_validator_of_bids(results, item, name, outcome, tmp_path):
    atlas = Atlas(np.ones((3, 3, 3), dtype=np.int64), np.eye(4), {1: "all"})
    done = results(probabilities=True, in_mni=True, pages=True, atlas=atlas)
    done.describe()
    about = json.loads((tmp_path / "out/dataset_description.json").read_text())
    assert (about["DatasetType"], about["GeneratedBy"][0]["Name"]) == ("derivative", "strokelesion")
    done.write(name, item, outcome)
    done.gather([name], {"bad.nii": "no T1"})
    validator = Path(sys.executable).with_name("bids-validator-deno")
    found = subprocess.run([validator, tmp_path / "out"], capture_output=True, text=True)
    assert "[ERROR]" not in found.stdout + found.stderr
    assert found.returncode == 0
    assert "1 - Subjects" in found.stdout + found.stderr


def test_what_earlier_settings_asked_for_does_not_stay_beside_new_masks(results, item, name, outcome, tmp_path):
    results(probabilities=True, draw_brain=is_bright, in_mni=True).write(name, item, outcome)
    results().write(name, item, outcome)
    assert [path.name for path in tmp_path.rglob("*_mask.nii.gz")] == [f"{name}_label-lesion_mask.nii.gz"]
    assert list(tmp_path.rglob("*_probseg.nii.gz")) == []
