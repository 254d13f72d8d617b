"""Results of new scans: mask and sidecar of each scan, scans that are done already, and the tables of all scans."""

import json
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from small_result import AFFINE, SHAPE, SHIFT, is_bright

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.bids_sources import from_uri, read_links
from strokelesion.pipeline.derivatives.provenance import read_sidecar
from strokelesion.pipeline.derivatives.result_names import CLASSES_MAP, MASK, SIDECAR
from strokelesion.pipeline.lesions.lesion_table import Atlas
from strokelesion.pipeline.lesions.measuring import NOT_PLACED
from strokelesion.transforms.registration import Registration

pytestmark = pytest.mark.usefixtures("no_doubts")


def test_a_scan_leaves_a_binary_mask_its_classes_and_a_sidecar_that_says_how(results, item, name, outcome, tmp_path):
    done = results()
    done.write(name, item, outcome)
    files = [*("_label-lesion_mask.json", "_label-lesion_mask.nii.gz")]
    files += [f"_seg-lesions_dseg.{ending}" for ending in ("json", "nii.gz", "tsv")]
    assert sorted(path.name for path in (tmp_path / "out/sub-01/ses-b/anat").iterdir()) == [f"{name}{file}" for file in files]
    mask, classes = (nib.load(done.path(name, file)) for file in (MASK, CLASSES_MAP))
    for image, counts in ((mask, [28]), (classes, [27, 1])):
        assert image.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(image.affine, AFFINE)
        assert np.bincount(np.asarray(image.dataobj).ravel()).tolist() == [int(np.prod(SHAPE)) - 28, *counts]
    labels = pd.read_csv(done.path(name, CLASSES_MAP.replace(".nii.gz", ".tsv")), sep="\t")
    assert labels[["index", "name", "mapping"]].to_numpy().tolist() == [[1, "main lesion", 7], [2, "sub-lesion", 7]]
    sidecar = read_sidecar(done.path(name, SIDECAR))
    expected = {"Type": "Lesion", "Sources": [Path(item["image"]).as_uri()], "Warnings": []}
    expected |= {"ToMNI152NLin2009aSym": SHIFT.tolist(), "Settings": done.asked}
    assert {key: sidecar[key] for key in expected} == expected
    assert done.asked["weights"] == "w"


def test_sources_in_a_bids_data_set_have_uris_that_its_link_resolves(results, item, name, outcome, tmp_path):
    (tmp_path / "in/dataset_description.json").write_text("{}")
    done = results()
    for _ in range(2):  # links stay
        done.describe([item, {"image": str(tmp_path / "elsewhere.nii")}])
    done.write(name, item, outcome)
    sidecar = read_sidecar(done.path(name, SIDECAR))
    assert sidecar["Sources"] == ["bids:raw:sub-01/ses-b/anat/sub-01_ses-b_T1w.nii"]
    links = read_links(tmp_path / "out")
    assert links == {"raw": (tmp_path / "in").as_uri()}
    assert from_uri(sidecar["Sources"][0], links) == item["image"]


@pytest.mark.parametrize("knows_left", [True, False])
def test_sides_are_told_only_if_the_scan_tells_them(results, item, name, outcome, tmp_path, knows_left):
    code = int(knows_left)
    scan = nib.load(item["image"])
    scan.set_qform(AFFINE, code)
    scan.set_sform(AFFINE, code)
    nib.save(scan, item["image"])
    atlas = Atlas(np.ones((3, 3, 3), dtype=np.int64), np.diag([400.0, 400, 400, 1]), {1: "left"})
    done = results(regions=atlas, pages=True, mni=True)
    done.write(name, item, outcome)
    done.gather([name], {})
    lesions, volumes, regions = (
        pd.read_csv(tmp_path / f"out/{table}.tsv", sep="\t") for table in ("lesions", "volumes", "regions")
    )
    sided = [*lesions[["hemisphere", "centroid_x_mm", "peak_x_mm"]].iloc[0], *volumes[["left_ml", "right_ml"]].iloc[0]]
    assert [pd.notna(value) for value in sided] == [knows_left] * 5
    assert lesions["centroid_y_mm"].notna().all()
    assert len(regions) == (knows_left and len(lesions) // 2)
    assert ("which side is left" in str(volumes["warnings"][0])) == (not knows_left)
    page = (tmp_path / f"out/pages/{name}.html").read_text()
    assert ("knowsLeft = true" in page) == knows_left
    assert ("which side is left" in page) == (not knows_left)
    mask = nib.load(done.path(name, MASK))
    assert (mask.header["qform_code"], mask.header["sform_code"]) == (code, code)
    in_mni = nib.load(done.path(name, f"space-MNI152NLin2009aSym_{MASK}")).header
    assert (in_mni["qform_code"], in_mni["sform_code"]) == (4, 4)


def test_what_is_done_is_not_done_again_unless_the_scan_or_the_settings_changed(results, item, name, outcome):
    atlases = [Atlas(np.ones((3, 3, 3), dtype=np.int64), np.eye(4), {1: region}) for region in ("all", "none")]
    first, other_atlas = (results(regions=atlas) for atlas in atlases)
    assert not first.is_done(name, item)
    first.write(name, item, outcome)
    assert first.is_done(name, item)
    others = [{"overwrite": True}, {"probabilities": True}, {"brain": is_bright}, {"weights": "others"}]
    others = [results(regions=atlases[0], **wanted) for wanted in others]
    assert not any(other.is_done(name, item) for other in (*others, other_atlas, results()))
    with open(item["image"], "ab") as file:
        file.write(b"!")
    assert not first.is_done(name, item)


@pytest.mark.parametrize(
    "damage",
    [lambda path: path(SIDECAR).write_text("{"), lambda path: path(MASK).unlink(), lambda path: path(CLASSES_MAP).unlink()],
)
def test_a_lost_mask_or_a_damaged_sidecar_is_made_again(results, item, name, outcome, damage):
    done = results()
    done.write(name, item, outcome)
    damage(partial(done.path, name))
    assert not done.is_done(name, item)


def test_tables_gather_all_scans_and_failures_say_why(results, item, name, outcome, tmp_path):
    atlas = Atlas(np.ones((3, 3, 3), dtype=np.int64), np.diag([400.0, 400, 400, 1]), {1: "all"})
    done = results(regions=atlas)
    done.write(name, item, outcome)
    done.gather([name], {"bad.nii": "no T1"})
    tables = {
        table: pd.read_csv(tmp_path / f"out/{table}.tsv", sep="\t", dtype={"subject": str})
        for table in ("volumes", "lesions", "regions", "failures")
    }
    for table, content in tables.items():
        columns = json.loads((tmp_path / f"out/{table}.json").read_text())
        assert {*content.columns} == {*columns}
        assert all(column["Description"] for column in columns.values())
        if table != "failures":
            assert content["scan"].unique().tolist() == ["sub-01_ses-b"]
    assert list(tables["volumes"].columns[:3]) == ["subject", "session", "scan"]
    assert set(json.loads((tmp_path / "out/lesions.json").read_text())["class"]["Levels"]) == {"main", "sub"}
    assert tables["lesions"]["class"].tolist() == ["main", "sub"]
    assert tables["lesions"]["volume_ml"].tolist() == pytest.approx([3.24, 0.12])
    assert tables["volumes"]["total_ml"].tolist() == pytest.approx([3.36])
    assert tables["regions"]["volume_ml"].tolist() == pytest.approx([3.36])
    failures = pd.read_csv(tmp_path / "out/failures.tsv", sep="\t")
    assert failures.to_dict("records") == [{"scan": "bad.nii", "reason": "no T1"}]


def test_results_of_other_settings_are_in_no_table(results, item, name, outcome, tmp_path):
    """A scan that fails with new settings still has its old mask."""
    results().write(name, item, outcome)
    results(weights="others").gather([name], {item["image"]: "no T1"})
    assert pd.read_csv(tmp_path / "out/volumes.tsv", sep="\t").empty


def test_where_the_registration_fails_there_are_volumes_and_a_warning(results, item, name, outcome, tmp_path):
    def fail(*_):
        raise UserError("the registration to MNI space failed")

    done = results(mni=True, register=fail)
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
    assert read_sidecar(done.path(name, SIDECAR))["Warnings"] == warnings
    assert int(seen[0].sum()) == 28
    assert seen[1] is None if warnings else np.array_equal(seen[1], SHIFT)


def test_more_lesion_than_there_can_be_is_warned_of(results, item, name, outcome, tmp_path):
    outcome["pred"][:, :8] = torch.tensor([0.1, 0.9, 0.0])[:, None, None, None]
    done = results()
    done.write(name, item, outcome)
    sidecar = read_sidecar(done.path(name, SIDECAR))
    assert "35% of the brain is called lesion" in sidecar["Warnings"][0]
