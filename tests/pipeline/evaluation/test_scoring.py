"""Scoring saved predictions: what is written, in what order, and that nothing is written where anything is wrong."""

import io
import json
import random
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from checkout import BUNDLES
from model_files import write_model
from monai.bundle import ConfigWorkflow
from PIL import Image
from stand_ins import DarkIsLesion

from strokelesion.pipeline.cohorts.records import NAMES
from strokelesion.pipeline.cohorts.survey import read_cohort
from strokelesion.pipeline.evaluation.predicted_masks import match_predictions
from strokelesion.pipeline.evaluation.scoring import score_predictions
from strokelesion.pipeline.runtime.errors import user_error

RESUNET = str(BUNDLES / "resunet.json")
DARK = {"_target_": "stand_ins.DarkIsLesion"}


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
def score(run_command, predicted, tmp_path):
    """Run the command `scoring` over the miniature; returns the folder of scores."""
    root, folder = predicted
    where = {"dataset_dir": str(root), "predictions": str(folder), "run_dir": str(tmp_path / "run"), "name": "peer"}

    def run(**options):
        run_command("scoring", "resunet", **{**where, **options})
        return Path({**where, **options}["run_dir"]) / "evaluation" / "held_out"

    return run


@pytest.fixture
def refused(score):
    """Return what a user is told."""

    def run(**options):
        with pytest.raises(RuntimeError) as error:
            score(**options)
        return str(user_error(error.value))

    return run


@pytest.fixture
def dark(tmp_path):
    """A model that is exact on the miniature's anatomy, and the options that take it."""
    protocol = {"spacing_mm": (8.0, 8.0, 8.0), "slice_mm": (224.0, 256.0)}
    path = write_model(tmp_path / "dark.pt", DarkIsLesion(), "stand_ins.DarkIsLesion", **protocol)
    return {"weights": path, "network_def": DARK}


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

    worst = pd.read_csv(folder / "worst.csv")
    assert worst["dice"].is_monotonic_increasing
    image = nib.load(records[0]["image"])
    sizes = [Image.open(io.BytesIO((folder / name).read_bytes())).size for name in worst["picture"]]
    assert set(sizes) == {(3 * image.shape[0], image.shape[1])}  # T1, truth, prediction side by side; voxels are cubes
    assert sorted(path.name for path in (folder / "worst").iterdir()) == [f"{n:02d}.png" for n in range(1, len(worst) + 1)]

    about = json.loads((folder / "about.json").read_text())
    assert (about["network"], about["loss"], about["fold"]) == ("peer", "-", "-")
    assert about["settings"] == {"dataset_dir": str(predicted[0]), "sub_lesions": "masks"}
    printed = capsys.readouterr().out
    assert f"Scores of {len(records)} scans" in printed
    assert f"{main.mean():.3f}" in printed


def scorable(root):
    """Return the bundle's chain that prepares a prediction to be scored."""
    workflow = ConfigWorkflow(RESUNET, run_id="scoring", logging_file=False, dataset_dir=str(root))
    workflow.initialize()
    return workflow.parser.get_parsed_content("scorable")


def test_neither_the_order_of_scans_nor_of_work_changes_a_byte(predicted, tmp_path):
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


def test_every_prediction_that_cannot_be_scored_is_named_and_no_table_is_written(refused, predicted):
    paths = sorted(predicted[1].rglob("*.nii.gz"))[:4]
    images = list(map(nib.load, paths))
    data, affines = [image.get_fdata(dtype=np.float32) for image in images], [image.affine.copy() for image in images]
    data[0][0, 0, 0] = np.nan
    affines[1][0, 3] += 8
    data[2] = data[2][1:]
    for path, values, affine in zip(paths, data, affines, strict=True):
        nib.save(nib.Nifti1Image(values, affine), path)
    probabilities = np.full((*data[3].shape, 3), 0.4, dtype=np.float32)
    probabilities[1, 2, 3, 0] = 1.2
    nib.save(nib.Nifti1Image(probabilities, affines[3]), str(paths[3]).replace("_lesion", "_probabilities"))
    message = refused()
    assert "4 predictions cannot be scored" in message
    reasons = ("holds nan", "8.0 mm apart", "is not on the grid of", "_probabilities.nii.gz runs from 0.4 to 1.2")
    assert all(words in message for words in (*map(str, paths), *reasons))
    assert not (predicted[1].parent / "run" / "evaluation").exists()


def test_the_scores_of_a_run_are_not_replaced_by_those_of_other_predictions(refused, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").touch()
    assert "is the run of a network, with scores of its own" in refused()


def test_what_is_no_users_error_keeps_its_traceback(predicted, tmp_path):
    root, predictions = predicted
    items = match_predictions(read_cohort(root), predictions)
    with pytest.raises(KeyError, match="truth"):
        score_predictions(items, dict, tmp_path / "scores", {"network": "peer"})
    assert not (tmp_path / "scores").exists()


def scores_in(folder):
    return pd.read_csv(folder / "scores.csv", dtype={"subject": str, "person": str})


def test_what_inference_wrote_is_scored_also_after_the_data_set_was_moved(
    run_command, score, dark, predicted, phantom_dir, tmp_path
):
    root, masks = predicted[0], str(tmp_path / "masks")
    wanted = {"save_probabilities": True, "pages": False}
    run_command("inference", "resunet", scans=f"{root}/**/*t1w*.nii.gz", output_dir=masks, **dark, **wanted)
    run_command("inference", "resunet", scans=str(next(phantom_dir.rglob("*t1w*"))), output_dir=masks, **dark, **wanted)
    scores = scores_in(score(predictions=masks))
    assert len(scores) == 3 * len(read_cohort(root))  # the mask of a scan of another data set changes nothing
    # Every scan has both lesions, but not every truth has the smaller one.
    traced = scores.query("lesion == 'sub' and truth_ml > 0")["subject"]
    both = scores[scores["subject"].isin(traced)].query("lesion == 'both'")
    assert len(both) == 4
    assert both["dice"].eq(1).all()
    assert both["isles26_pr_auc"].eq(1).all()
    # Probabilities of either lesion say nothing of one class.
    assert scores.query("lesion != 'both'")["isles26_pr_auc"].isna().all()
    moved = shutil.move(root, tmp_path / "elsewhere on the disk")
    again = scores_in(score(predictions=masks, dataset_dir=str(moved), run_dir=str(tmp_path / "again")))
    pd.testing.assert_frame_equal(again, scores)


def test_evaluating_is_inference_and_scoring_without_the_scores_of_before(run_command, score, dark, predicted, tmp_path):
    root, run_dir = predicted[0], tmp_path / "evaluated"
    where = {"dataset_dir": str(root), "run_dir": str(run_dir), "scored": "all", **dark}
    run_command("evaluating", "resunet", **where)
    evaluation = run_dir / "evaluation" / "all"
    scores = scores_in(score(predictions=str(evaluation / "predictions")))
    pd.testing.assert_frame_equal(scores_in(evaluation), scores)
    about = json.loads((evaluation / "about.json").read_text())
    assert (about["network"], about["settings"]["weights"]) == ("DarkIsLesion", "dark.pt")
    assert about["settings"]["spacing_mm"] == [8.0, 8.0, 8.0]

    before = {path: path.stat().st_mtime_ns for path in evaluation.rglob("*_mask.nii.gz")}
    Path(read_cohort(root)[0]["image"]).write_bytes(b"no image")
    with pytest.raises(SystemExit) as end:
        run_command("evaluating", "resunet", **where)
    assert end.value.code == 1
    assert not (evaluation / "scores.csv").exists()
    assert {path: path.stat().st_mtime_ns for path in evaluation.rglob("*_mask.nii.gz")} == before, "they are kept"


@pytest.mark.parametrize("missing", ["name", "predictions", "run_dir"])
def test_what_has_no_default_is_asked_for(missing, refused):
    assert f"--{missing} is missing" in refused(**{missing: None})
