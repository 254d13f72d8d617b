"""The verb `experiments`: all combinations once, killed and resumed, time left, and what stops it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import monai.bundle
import pandas as pd
import pytest
import torch

from strokelesion.pipeline import experiments
from strokelesion.pipeline.errors import innermost
from strokelesion.pipeline.experiments import plan, run_experiments, time_left_s

QUICK = {"epochs": 2, "slices": "lesion", "spacing_mm": 4, "batch_size": 8, "device": "cpu", "panel_scans": 0}
PATIENCE_S = 180


@pytest.fixture
def knobs(at_root, phantom_dir, tmp_path_factory):
    """What each run is handed: two folds of the phantom at 4 mm, one slice store for all tests."""
    cache_dir = str(tmp_path_factory.getbasetemp() / "experiments_store")
    return {**QUICK, "dataset_dir": str(phantom_dir), "split": "2-fold", "seed": 0, "cache_dir": cache_dir}


def written(runs_dir):
    """Scores and best weights of all runs, for comparison."""
    runs = sorted(path.parent for path in runs_dir.glob("*/last.pt"))
    scores = {run.name: (run / "evaluation/held_out/scores.csv").read_bytes() for run in runs}
    weights = {run.name: torch.load(run / "best.pt", weights_only=True)["network"] for run in runs}
    return scores, weights


@pytest.fixture
def runs_dir(knobs, tmp_path):
    """Two networks, one loss, two folds, done by the verb itself."""
    runs_dir = tmp_path / "runs"
    monai.bundle.run(
        "experiments",
        config_file="bundles/experiments.json",
        logging_file=False,
        networks="segnet,resunet",
        losses="dice",
        split="2-fold",
        dataset_dir=knobs["dataset_dir"],
        runs_dir=str(runs_dir),
        report_dir=str(tmp_path / "report"),
        **{"run_knobs::more": {**knobs, "epochs": 1}},
    )
    return runs_dir


def test_all_combinations_are_trained_evaluated_and_reported_once(runs_dir, knobs, tmp_path, capsys):
    names = {f"{network}_dice_{fold}" for network in ("segnet", "resunet") for fold in (0, 1)}
    assert {path.name for path in runs_dir.iterdir()} == {*names, "split.csv", ".lock"}
    assert len({(folder / "split.csv").read_bytes() for folder in (runs_dir, *map(runs_dir.joinpath, names))}) == 1
    held_out = [
        set(pd.read_csv(runs_dir / f"resunet_dice_{fold}/evaluation/held_out/scores.csv")["subject"]) for fold in (0, 1)
    ]
    assert not held_out[0] & held_out[1]
    assert len(held_out[0] | held_out[1]) == 8
    table = pd.read_csv(tmp_path / "report" / "table.csv")
    assert table.query("lesion == 'main'")["persons"].tolist() == [8, 8]
    assert (tmp_path / "report" / "index.html").is_file()

    def state():
        return {path: path.stat().st_mtime_ns for path in runs_dir.rglob("*") if path.is_file() and path.name != ".lock"}

    before = state()
    capsys.readouterr()
    run_experiments(["segnet", "resunet"], ["dice"], [0, 1], runs_dir, {**knobs, "epochs": 1}, tmp_path / "again")
    assert state() == before
    printed = capsys.readouterr().out
    assert "4 of 4 experiments are done; 0 failed.\n" in printed
    assert "time left" not in printed

    with pytest.raises(ValueError, match=r"resunet_dice_0 was begun with epochs 1; got 2\. Give what it was begun with"):
        run_experiments(["resunet"], ["dice", "cce"], [0, 1], runs_dir, knobs, tmp_path / "again")
    assert not (runs_dir / "resunet_cce_0").exists()


def start(knobs, runs_dir):
    words = [f"--{name}={json.dumps(value) if isinstance(value, list) else value}" for name, value in knobs.items()]
    verb = [sys.executable, "-m", "monai.bundle", "run", "experiments", "--config_file", "bundles/experiments.json"]
    narrow = [
        "--networks",
        "resunet",
        "--losses",
        "cce",
        "--runs_dir",
        str(runs_dir),
        "--report_dir",
        str(runs_dir.parent / "r"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*verb, *narrow, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)


def kill_when(process, pattern, folder):
    """kill -9 as soon as a file of that pattern is there."""
    deadline = time.monotonic() + PATIENCE_S
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.stdout.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_killed_in_training_and_in_evaluating_it_ends_with_the_same_bytes(knobs, tmp_path):
    killed = tmp_path / "killed"
    kill_when(start(knobs, killed), "resunet_cce_0/last.pt", killed)
    kill_when(start(knobs, killed), "resunet_cce_1/evaluation/held_out/predictions/**/*.nii.gz", killed)
    last = start(knobs, killed)
    output = last.communicate(timeout=PATIENCE_S)[0].decode()
    assert last.returncode == 0, output
    assert "experiment 2 of 2: resunet, cce, fold 1; time left" in output
    assert "experiment 1 of 2" not in output

    undisturbed = tmp_path / "undisturbed"
    torch.set_num_threads(1)
    run_experiments(["resunet"], ["cce"], [0, 1], undisturbed, knobs, tmp_path / "report")
    (scores, weights), (expected_scores, expected_weights) = written(killed), written(undisturbed)
    assert scores == expected_scores
    for run, tensors in expected_weights.items():
        assert all(torch.equal(tensors[key], weights[run][key]) for key in tensors)


def test_one_that_fails_is_reported_and_the_others_go_on(knobs, tmp_path, monkeypatch, caplog, capsys):
    done = []

    def carry_out(experiment, knobs, settings):
        if experiment.loss == "dice":
            raise MemoryError("no room")
        done.append(experiment.folder.name)

    monkeypatch.setattr(experiments, "carry_out", carry_out)
    with pytest.raises(SystemExit) as stop:
        run_experiments(["unet", "resunet"], ["cce", "dice"], [0], tmp_path / "runs", knobs, tmp_path / "report")
    assert stop.value.code == 1
    assert done == ["unet_cce_0", "resunet_cce_0"]
    assert "unet_dice_0 failed: no room" in caplog.text
    assert "2 of 4 experiments are done; 2 failed." in capsys.readouterr().out


def test_a_wrong_knob_is_refused_before_anything_starts(knobs, tmp_path):
    with pytest.raises(RuntimeError) as error:
        run_experiments(["unet"], ["cce"], [0], tmp_path / "runs", {**knobs, "schedule": "linear"}, tmp_path)
    assert "--schedule got 'linear'; allowed are constant, cosine." in str(innermost(error.value))
    assert not (tmp_path / "runs").exists()


def test_time_left_is_that_of_the_same_network_else_of_all(tmp_path):
    planned = plan(["unet", "segnet"], ["cce"], [0, 1], tmp_path)
    assert [experiment.folder.name for experiment in planned] == ["unet_cce_0", "segnet_cce_0", "unet_cce_1", "segnet_cce_1"]
    assert time_left_s(planned) is None
    finish(planned[0], 100)
    assert time_left_s(planned) == 300  # segnet is not known yet: as long as unet
    finish(planned[1], 40)
    assert time_left_s(planned) == 140


def test_a_run_that_was_only_looked_at_is_not_done(tmp_path):
    """Somebody evaluates a run that was stopped: scores alone do not make it done."""
    (experiment,) = plan(["unet"], ["cce"], [0], tmp_path)
    finish(experiment, 1)
    experiment.note(is_done=False)
    assert not experiment.is_done


@pytest.mark.parametrize("folds", [["A/B", "A B"], ["$print(1)"], ["@seed"], ["%x.json::y"]])
def test_sites_that_would_share_a_folder_or_be_run_as_code_are_refused(folds, tmp_path):
    with pytest.raises(ValueError, match="got folds named"):
        plan(["unet"], ["cce"], folds, tmp_path)


def test_a_sites_name_cannot_leave_the_folder_of_runs(tmp_path):
    (experiment,) = plan(["unet"], ["cce"], ["../../etc"], tmp_path)
    assert experiment.folder.parent == tmp_path
    assert experiment.fold == "../../etc"


def finish(experiment, duration_s):
    scores = experiment.folder / "evaluation" / "held_out" / "scores.csv"
    scores.parent.mkdir(parents=True)
    Path(scores).touch()
    experiment.note(settings={}, is_done=True, duration_s=duration_s)
