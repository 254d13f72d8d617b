"""Which prediction belongs to which scan, and what of them is refused."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.survey import read_cohort
from strokelesion.pipeline.evaluation import predicted_masks
from strokelesion.pipeline.evaluation.predicted_masks import match_predictions
from strokelesion.transforms import CheckPredictiond


def put(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def stem(record, root):
    return record["image"].removeprefix(f"{root}/").removesuffix(".nii.gz")


@pytest.mark.parametrize("postfix", ["_lesion.nii.gz", ".nii.gz", "_lesion.nii", "_Lesion.mha"])
def test_predictions_are_found_under_the_scans_own_names_without_reading_a_scan(postfix, release_dir, tmp_path, monkeypatch):
    """R1.1 names the scans of t01 and t02 alike: their folders distinguish them."""
    root = release_dir("R1.1")
    records = read_cohort(root)
    monkeypatch.setattr(predicted_masks, "sha256_of_scan", lambda item: pytest.fail("a scan was read"))
    folder = put(tmp_path / "predictions", *(stem(record, root) + postfix for record in records))
    put(folder, stem(records[0], root) + "_probabilities.nii.gz", "notes.txt", ".hidden.nii.gz")
    items = match_predictions(records, folder)
    assert [item["image"] for item in items] == [record["image"] for record in records]
    assert [item["pred"] for item in items] == [str(folder / (stem(record, root) + postfix)) for record in records]
    assert ["probabilities" in item for item in items] == [True] + [False] * (len(items) - 1)


def derived(folder, records, *endings):
    """Write what `inference` writes of scans under names of its own: empty masks with their sidecars, and more."""
    for number, record in enumerate(records):
        name = f"sub-{number}/anat/sub-{number}"
        put(folder, f"{name}_label-lesion_mask.nii.gz", *(f"{name}_{ending}" for ending in endings))
        scan = hashlib.sha256(Path(record["image"]).read_bytes()).hexdigest()
        (folder / f"{name}_label-lesion_mask.json").write_text(json.dumps({"InputSHA256": scan}))
    return folder


def test_masks_of_this_project_are_found_by_what_they_were_made_of_wherever_it_lies_now(release_dir, tmp_path):
    """Beside probabilities, masks in MNI space, brains, tables, and masks of scans that are not in the data set."""
    root = release_dir("R1.1")
    records = read_cohort(root)
    mni = "space-MNI152NLin2009aSym_label-lesion"
    more = ("seg-lesions_dseg.nii.gz", f"{mni}_mask.nii.gz", f"{mni}_mask.json", f"{mni}_probseg.nii.gz")
    more += ("label-lesion_probseg.nii.gz", "desc-brain_mask.nii.gz")
    folder = derived(tmp_path / "masks", records, *more)
    put(folder, "volumes.tsv", "sub-other/anat/sub-other_label-lesion_mask.nii.gz")
    (folder / "sub-other/anat/sub-other_label-lesion_mask.json").write_text(json.dumps({"InputSHA256": "0" * 64}))
    (folder / "sub-other/anat/sub-damaged_label-lesion_mask.json").write_text("{")
    (folder / "sub-0/anat/sub-0_label-lesion_probseg.nii.gz").unlink()
    (folder / "sub-1/anat/sub-1_seg-lesions_dseg.nii.gz").unlink()
    moved = read_cohort(root.rename(tmp_path / "elsewhere"))
    assert [record["image"] for record in moved] != [record["image"] for record in records]
    items = match_predictions(moved, folder)
    names = [f"{folder}/sub-{number}/anat/sub-{number}" for number in range(len(records))]
    files = {1: "label-lesion_mask"}  # without its map of classes
    expected = [f"{name}_{files.get(number, 'seg-lesions_dseg')}.nii.gz" for number, name in enumerate(names)]
    assert [item["pred"] for item in items] == expected
    expected = [None, *(f"{name}_label-lesion_probseg.nii.gz" for name in names[1:])]
    assert [item.get("probabilities") for item in items] == expected


def test_a_scan_that_changed_after_its_mask_was_made_has_none(release_dir, tmp_path):
    records = read_cohort(release_dir("R1.1"))
    folder = derived(tmp_path / "masks", records)
    with open(records[0]["image"], "ab") as file:
        file.write(b"changed")
    (folder / "sub-1/anat/sub-1_label-lesion_mask.nii.gz").unlink()
    with pytest.raises(UserError, match="2 scans without a prediction") as error:
        match_predictions(records, folder)
    assert all(record["image"] in str(error.value) for record in records[:2])
    with pytest.raises(UserError, match="nowhere is not a folder"):
        match_predictions(records, tmp_path / "nowhere")


@pytest.mark.parametrize("ending", ["label-L_mask.nii.gz", "space-orig_label-lesion_desc-theirs_mask.nii", "dseg.nii.gz"])
@pytest.mark.parametrize("release", ["R2.0", "BIDS"])
def test_bids_masks_of_other_software_are_found_by_subject_and_session(ending, release, release_dir, tmp_path):
    records = read_cohort(release_dir(release))
    names = ["_".join(word for word in Path(r["image"]).name.split("_") if word[:3] in ("sub", "ses")) for r in records]
    folder = put(tmp_path / "theirs", *(f"{name.replace('_', '/')}/anat/{name}_{ending}" for name in names))
    put(folder, f"{names[1].replace('_', '/')}/anat/{names[1]}_label-lesion_probseg.nii.gz", "dataset_description.json")
    items = match_predictions(records, folder)
    assert [Path(item["pred"]).name for item in items] == [f"{name}_{ending}" for name in names]
    assert ["probabilities" in item for item in items] == [number == 1 for number in range(len(items))]


def test_beside_the_map_of_classes_the_mask_is_no_second_prediction(release_dir, tmp_path):
    """Results of this project whose sidecars are lost."""
    records = read_cohort(release_dir("R2.0"))
    names = [Path(record["image"]).name.split("_space")[0] for record in records]
    folder = put(
        tmp_path / "ours", *(f"{name}_{end}.nii.gz" for name in names for end in ("label-lesion_mask", "seg-lesions_dseg"))
    )
    assert all(item["pred"].endswith("_seg-lesions_dseg.nii.gz") for item in match_predictions(records, folder))


def test_a_brain_mask_is_no_lesion_mask_and_a_second_lesion_mask_is_refused(release_dir, tmp_path):
    records = read_cohort(release_dir("R2.0"))
    names = [Path(record["image"]).name.split("_space")[0] for record in records]
    folder = put(tmp_path / "theirs", *(f"{name}_desc-brain_mask.nii.gz" for name in names))
    with pytest.raises(UserError, match=f"{len(names)} scans without a prediction"):
        match_predictions(records, folder)
    folder = put(tmp_path / "twice", *(f"{name}_label-L_mask.nii.gz" for name in names), f"{names[0]}_dseg.nii.gz")
    with pytest.raises(UserError, match=f"(?s)1 second predictions of a scan:.*{names[0]}_label-L_mask.nii.gz beside "):
        match_predictions(records, folder)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("stranger_lesion.nii.gz", "1 predictions that belong to no scan.*/stranger_lesion.nii.gz"),
        ("{bare}_lesion.nii.gz", "1 predictions that belong to no scan, or to several.*/p/{bare}_lesion.nii.gz"),
        ("{twice}.nii.gz", "1 second predictions of a scan:.*{twice}_lesion.nii.gz beside .*{twice}.nii.gz"),
    ],
)
def test_a_surplus_prediction_is_refused_by_name(extra, message, release_dir, tmp_path):
    """Of no scan; one whose bare name two sessions share; a second one of a scan."""
    root = release_dir("R1.1")
    records = read_cohort(root)
    words = {"twice": stem(records[1], root), "bare": stem(records[0], root).split("/")[-1]}
    folder = put(tmp_path / "p", *(stem(record, root) + "_lesion.nii.gz" for record in records), extra.format(**words))
    with pytest.raises(UserError, match="(?s)" + message.format(**words)):
        match_predictions(records, folder)


def loaded(values, name, shift_mm=0.0):
    affine = torch.eye(4, dtype=torch.float64)
    affine[0, 3] = shift_mm
    return MetaTensor(torch.as_tensor(values, dtype=torch.float32), affine=affine, meta={"filename_or_obj": name})


def sample(pred=None, probabilities=None, **shift):
    image = loaded(np.ones((1, 4, 5, 6)), "t1.nii.gz")
    data = {"image": image, "pred": loaded(np.zeros((1, 4, 5, 6)) if pred is None else pred, "pred.nii.gz", **shift)}
    return data if probabilities is None else {**data, "probabilities": loaded(probabilities, "map.nii.gz")}


def spoiled(shape, value):
    array = np.full(shape, 1 / 3)
    array[(0,) * len(shape)] = value
    return array


def test_labels_become_bytes_and_sound_probabilities_pass():
    checked = CheckPredictiond()(sample(np.eye(4, 30).reshape(1, 4, 5, 6) * 2, np.full((3, 4, 5, 6), 1 / 3)))
    assert checked["pred"].dtype == torch.uint8
    assert checked["pred"].sum() == 8
    of_either_lesion = sample(probabilities=np.full((1, 4, 5, 6), 0.3))
    assert CheckPredictiond()(of_either_lesion)["probabilities"].shape == (1, 4, 5, 6)


@pytest.mark.parametrize(
    ("file", "divide", "classes"),
    [("x_mask.nii.gz", "components", [1, 2]), ("x_mask.nii.gz", "masks", [1, 1]), ("x_dseg.nii.gz", "components", [1, 1])],
)
def test_a_binary_mask_is_divided_as_the_truth_is_and_a_map_of_classes_is_not(file, divide, classes):
    mask = np.zeros((1, 4, 5, 6))
    mask[0, 0, 0, :2] = mask[0, 3, 4, 5] = 1
    data = sample(mask)
    data["pred"].meta["filename_or_obj"] = f"a_mask/{file}"
    checked = CheckPredictiond(divide)(data)["pred"]
    assert checked[0, [0, 3], [0, 4], [0, 5]].tolist() == classes
    assert checked.affine.equal(data["image"].affine)


def test_predictions_whose_axes_run_another_way_are_moved_to_those_of_the_scan():
    labels, map_ = np.eye(4, 30).reshape(1, 4, 5, 6), np.random.default_rng(0).random((1, 4, 5, 6), np.float32)
    data = sample(labels[:, ::-1].copy(), map_[:, :, ::-1].copy())
    for key, axis, size in (("pred", 0, 4), ("probabilities", 1, 5)):
        data[key].affine = data["image"].affine.clone()
        data[key].affine[axis, [axis, 3]] = torch.tensor([-1.0, size - 1.0], dtype=torch.float64)
    checked = CheckPredictiond()(data)
    np.testing.assert_array_equal(checked["pred"], labels)
    np.testing.assert_array_equal(checked["probabilities"], map_)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (sample(np.zeros((1, 4, 5, 7))), "pred.nii.gz.*is not on the grid of t1.nii.gz"),
        (sample(shift_mm=1.0), "pred.nii.gz.*is not on the grid of t1.nii.gz"),
        (sample(np.full((1, 4, 5, 6), 3)), "pred.nii.gz holds 3; expected one label map"),
        (sample(np.full((1, 4, 5, 6), 0.5)), "pred.nii.gz holds 0.5"),
        (sample(np.zeros((3, 4, 5, 6))), "pred.nii.gz holds 3 channels"),
        (sample(probabilities=spoiled((3, 4, 5, 6), 1.01)), "map.nii.gz runs from .* to 1.01"),
        (sample(probabilities=spoiled((3, 4, 5, 6), np.nan)), "map.nii.gz runs from nan"),
        (sample(probabilities=np.zeros((2, 4, 5, 6))), "map.nii.gz has 2 channels; expected one of lesion, or 3 along"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_its_file(data, message):
    with pytest.raises(UserError, match=message):
        CheckPredictiond()(data)
