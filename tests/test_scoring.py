"""Scoring saved predictions: what is written, in what order, and that nothing is written where anything is wrong."""

import io
import json
import random
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from monai.bundle import ConfigParser
from PIL import Image

from strokelesion.pipeline.datalist import read_cohort
from strokelesion.pipeline.errors import innermost
from strokelesion.pipeline.predictions import match_predictions
from strokelesion.pipeline.records import NAMES
from strokelesion.pipeline.scoring import clear, score_predictions


def truth_of(record):
    """The label map that the files of a record mean, in its own grid, with its affine."""
    label = None
    for value, paths in ((1, [record["main_mask"]]), (2, record.get("sub_masks", []))):
        for path in paths:
            mask = nib.load(path)
            data = np.asarray(mask.dataobj)
            label = np.zeros(data.shape, dtype=np.uint8) if label is None else label
            label[(data > data.max() / 2) & (label == 0)] = value
    return label, mask.affine


@pytest.fixture
def predicted(release_dir, tmp_path):
    """A miniature R1.1 and predictions for it, each the truth moved by so many voxels as its number: root, folder."""
    root = release_dir("R1.1")
    for number, record in enumerate(sorted(read_cohort(root), key=lambda record: [record[key] for key in NAMES])):
        label, affine = truth_of(record)
        path = tmp_path / "predictions" / Path(record["image"].replace(".nii", "_lesion.nii")).relative_to(root)
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(np.roll(label, number, axis=0), affine), path)
    return root, tmp_path / "predictions"


@pytest.fixture
def score(at_root, predicted, tmp_path):
    """Run the verb `scoring` over the miniature; returns the folder of scores."""
    root, folder = predicted

    def run(**knobs):
        where = {"dataset_dir": str(root), "predictions": str(folder), "run_dir": str(tmp_path / "run"), "name": "peer"}
        monai.bundle.run("scoring", config_file="bundles/experiments.json", logging_file=False, **{**where, **knobs})
        return tmp_path / "run" / "evaluation" / "held_out"

    return run


def test_tables_pictures_and_where_they_come_from_are_written(score, predicted, capsys):
    folder = score()
    records = read_cohort(predicted[0])
    scores = pd.read_csv(folder / "scores.csv", dtype={"subject": str, "person": str})
    assert scores["lesion"].tolist() == ["main", "sub", "both"] * len(records)
    assert scores[NAMES].drop_duplicates().to_numpy().tolist() == sorted([record[key] for key in NAMES] for record in records)
    main = scores.query("lesion == 'main'")["dice"]
    assert main.iloc[0] == 1
    assert main.is_monotonic_decreasing  # each prediction is further off than the one before

    lesions = pd.read_csv(folder / "lesions.csv")
    counts = [np.unique(truth_of(record)[0]).size - 1 for record in records]
    assert len(lesions) == sum(counts)
    assert lesions["volume_ml"].sum() == pytest.approx(scores.query("lesion == 'both'")["truth_ml"].sum())

    assert json.loads((folder / "about.json").read_text())["network"] == "peer"
    printed = capsys.readouterr().out
    assert f"Scores of {len(records)} scans" in printed
    assert f"{main.mean():.3f}" in printed


def test_the_worst_scans_are_pictured_worst_first(score, predicted):
    folder = score()
    worst = pd.read_csv(folder / "worst.csv")
    assert worst["dice"].is_monotonic_increasing
    image = nib.load(read_cohort(predicted[0])[0]["image"])
    for name in worst["picture"]:
        picture = Image.open(io.BytesIO((folder / name).read_bytes()))
        assert picture.size == (3 * image.shape[0], image.shape[1])  # T1, truth, prediction side by side; voxels are cubes
    assert sorted(path.name for path in (folder / "worst").iterdir()) == [f"{n:02d}.png" for n in range(1, len(worst) + 1)]


def scorable(root):
    parser = ConfigParser()
    parser.read_config(ConfigParser.load_config_file("bundles/experiments.json"))
    parser["dataset_dir"] = str(root)
    return parser.get_parsed_content("scorable")


def test_neither_the_order_of_scans_nor_of_work_changes_a_byte(at_root, predicted, tmp_path):
    root, predictions = predicted
    items = match_predictions(read_cohort(root), predictions)
    written = []
    for seed, workers in ((0, 1), (1, 3)):
        folder = tmp_path / str(seed)
        shuffled = random.Random(seed).sample(items, len(items))
        score_predictions(shuffled, scorable(root), folder, {"network": "peer"}, workers=workers)
        written.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert written[0] == written[1]
    assert len(written[0]) == 4 + len(items)


def rewrite(path, change):
    image = nib.load(path)
    data, affine = change(np.asarray(image.dataobj).astype(np.float32), image.affine.copy())
    nib.save(nib.Nifti1Image(data, affine), path)


def with_nan(data, affine):
    data[0, 0, 0] = np.nan
    return data, affine


def moved(data, affine):
    affine[0, 3] += 8
    return data, affine


def cropped(data, affine):
    return data[1:], affine


def test_every_prediction_that_cannot_be_scored_is_named_and_no_table_is_written(score, predicted):
    paths = sorted(predicted[1].rglob("*.nii.gz"))
    for path, change in zip(paths, (with_nan, moved, cropped), strict=False):
        rewrite(path, change)
    label = nib.load(paths[3])
    probabilities = np.full((*label.shape, 3), 0.4, dtype=np.float32)
    probabilities[1, 2, 3, 0] = 1.2
    nib.save(nib.Nifti1Image(probabilities, label.affine), str(paths[3]).replace("_lesion", "_probabilities"))
    with pytest.raises(RuntimeError) as error:
        score()
    message = str(innermost(error.value))
    assert "4 predictions cannot be scored" in message
    for path in paths[:4]:
        assert str(path) in message
    for reason in ("holds nan", "8.0 mm apart", "is not on the grid of", "_probabilities.nii.gz runs from 0.4 to 1.2"):
        assert reason in message
    assert not (predicted[1].parent / "run" / "evaluation").exists()


def test_probability_maps_that_agree_with_perfect_labels_have_an_area_of_one(score, predicted):
    record = read_cohort(predicted[0])[0]
    label, affine = truth_of(record)
    probabilities = np.eye(3, dtype=np.float32)[label]
    path = sorted(predicted[1].rglob("*_lesion.nii.gz"))[0]
    nib.save(nib.Nifti1Image(probabilities, affine), str(path).replace("_lesion", "_probabilities"))
    scores = pd.read_csv(score() / "scores.csv")
    area = scores.query("lesion == 'main'")["isles26_pr_auc"]
    assert area.iloc[0] == 1
    assert area.iloc[1:].isna().all()


def test_the_scores_of_a_run_are_not_replaced_by_those_of_other_predictions(score, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").touch()
    with pytest.raises(RuntimeError) as error:
        score()
    assert "is the run of a network, with scores of its own" in str(innermost(error.value))


def test_what_an_earlier_evaluation_left_is_gone_before_the_next(tmp_path):
    for name in ("scores.csv", "predictions/a_probabilities.nii.gz", "about.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    clear(tmp_path, ready=[])
    assert [path.name for path in tmp_path.iterdir()] == ["about.json"]
    clear(tmp_path / "never_made", ready=[])


@pytest.mark.parametrize("missing", ["name", "predictions", "run_dir"])
def test_what_has_no_default_is_asked_for(missing, score):
    with pytest.raises(RuntimeError) as error:
        score(**{missing: None})
    assert f"--{missing} is missing" in str(innermost(error.value))
