"""The command `experiments`: all combinations once, interrupted and resumed, time left, and what stops it."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from checkout import BUNDLES

from strokelesion.pipeline.report import experiments
from strokelesion.pipeline.report.experiments import estimate_time_left_s, plan, run_experiments
from strokelesion.pipeline.runtime.errors import user_error

QUICK = {"epochs": 2, "slices": "lesion", "spacing_mm": 4, "batch_size": 8, "device": "cpu"}
pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file :UserWarning:strokelesion.pipeline.report.experiments")


@pytest.fixture
def options(phantom_dir, tmp_path, tmp_path_factory, monkeypatch):
    """What each run is handed: two folds of the phantom at 4 mm, one slice store for all tests."""
    monkeypatch.chdir(tmp_path)
    cache_dir = str(tmp_path_factory.getbasetemp() / "experiments_store")
    where = {"dataset_dir": str(phantom_dir), "split": "2-fold", "cache_dir": cache_dir}
    return {**QUICK, **where, "panel_scans": 0}


def run(networks, losses, folds, runs_dir, options, report_dir):
    """Run experiments of this project's bundle files."""
    run_experiments(networks, losses, folds, [0], runs_dir, {}, options, report_dir, BUNDLES)


@pytest.fixture
def runs_dir(run_command, options, tmp_path):
    """Two networks, one loss, two folds, done by the command itself, which takes options of training, too."""
    runs_dir = tmp_path / "runs"
    where = {"runs_dir": str(runs_dir), "report_dir": str(tmp_path / "report")}
    run_command("experiments", "experiments", networks="segnet,resunet", losses="dice", **{**options, "epochs": 1}, **where)
    return runs_dir


def test_all_combinations_are_trained_evaluated_and_reported_once(runs_dir, options, tmp_path, capsys):
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
    run(["segnet", "resunet"], ["dice"], [0, 1], runs_dir, {**options, "epochs": 1}, tmp_path / "again")
    assert state() == before
    printed = capsys.readouterr().out
    assert "4 of 4 experiments are done; 0 failed.\n" in printed
    assert "time left" not in printed

    with pytest.raises(ValueError, match=r"resunet_dice_0 was begun with epochs 1; got 2\. Give what it was begun with"):
        run(["resunet"], ["dice", "cce"], [0, 1], runs_dir, options, tmp_path / "again")
    assert not (runs_dir / "resunet_cce_0").exists()


def test_an_interrupted_run_goes_on_where_it_was_and_finished_ones_are_left_alone(options, tmp_path, monkeypatch, capsys):
    """The bytes that killed work ends with are compared in tests/hostile/test_crashes.py."""
    done = []

    def command(run_id, run_dir, **others):
        assert run_id == "evaluating" or others["resume"]
        done.append(f"{run_id} {run_dir[-1]}")
        if done == ["training 0", "evaluating 0", "training 1", "evaluating 1"]:
            raise KeyboardInterrupt
        if run_id == "evaluating":
            scores = Path(run_dir) / "evaluation/held_out/scores.csv"
            scores.parent.mkdir(parents=True)
            scores.touch()

    monkeypatch.setattr(experiments.monai.bundle, "run", command)
    monkeypatch.setattr(experiments, "write_report", lambda runs, folder: done.append(len(runs)))
    arguments = (["resunet"], ["cce"], [0, 1], tmp_path / "runs", options, tmp_path / "report")
    with pytest.raises(KeyboardInterrupt):
        run(*arguments)
    run(*arguments)
    assert done[4:] == ["training 1", "evaluating 1", 2]
    assert "experiment 2 of 2: resunet, cce, fold 1, seed 0; time left" in capsys.readouterr().out
    records = [json.loads((tmp_path / f"runs/resunet_cce_{fold}/experiment.json").read_text()) for fold in (0, 1)]
    assert [(record["is_done"], "duration_s" in record) for record in records] == [(True, True), (True, False)]


def test_one_that_fails_is_reported_and_the_others_go_on(options, tmp_path, monkeypatch, caplog, capsys):
    """A fault is logged with its traceback."""
    done = []

    def carry_out(experiment, options, settings):
        if experiment.loss == "dice":
            raise MemoryError("no room")
        done.append(experiment.folder.name)

    monkeypatch.setattr(experiments, "carry_out", carry_out)
    with pytest.raises(SystemExit) as stop:
        run(["unet", "resunet"], ["cce", "dice"], [0], tmp_path / "runs", options, tmp_path / "report")
    assert stop.value.code == 1
    assert done == ["unet_cce_0", "resunet_cce_0"]
    assert "unet_dice_0 failed: MemoryError: no room" in caplog.text
    assert 'raise MemoryError("no room")' in caplog.text
    assert "2 of 4 experiments are done; 2 failed." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"schedule": "linear"}, "--schedule got 'linear'; allowed are constant, cosine."),
        ({"threshold": 2}, "--threshold got 2; allowed is a number above 0 and at most 1."),
        ({"epochs": 0}, "--epochs got 0; allowed is a whole number of at least 1."),
    ],
)
def test_a_wrong_option_is_refused_before_anything_starts(wrong, message, options, run_command, tmp_path):
    for work in (
        lambda: run(["unet"], ["cce"], [0], tmp_path / "runs", {**options, **wrong}, tmp_path),
        lambda: run_command("experiments", "experiments", runs_dir=str(tmp_path / "runs"), **{**options, **wrong}),
    ):
        with pytest.raises((RuntimeError, ValueError)) as error:
            work()
        assert message in str(user_error(error.value))
    assert not list(tmp_path.rglob("last.pt"))
    assert not (tmp_path / "runs" / "unet_cce_0").exists()


def test_each_seed_is_a_training_of_its_own_on_one_split(run_command, options, tmp_path):
    where = {"runs_dir": str(tmp_path / "runs"), "report_dir": str(tmp_path / "report")}
    chosen = {"networks": "resunet", "losses": "dice", "folds": 0, "seeds": "0,3", "epochs": 1}
    run_command("experiments", "experiments", **{**options, **chosen}, **where)
    first, other = (tmp_path / "runs" / name for name in ("resunet_dice_0", "resunet_dice_0_seed3"))
    assert (first / "split.csv").read_bytes() == (other / "split.csv").read_bytes()
    weights = [torch.load(folder / "last.pt", weights_only=True)["network"] for folder in (first, other)]
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])
    table = pd.read_csv(tmp_path / "report" / "runs.csv")
    assert sorted(table.query("lesion == 'main'")["seed"]) == [0, 3]


@pytest.mark.parametrize("seeds", ["0,-1", "one", ""])
def test_seeds_are_whole_numbers(seeds, run_command, tmp_path):
    with pytest.raises((RuntimeError, ValueError)) as error:
        run_command("experiments", "experiments", runs_dir=str(tmp_path), seeds=seeds)
    assert "--seeds got" in str(user_error(error.value))


def test_time_left_is_that_of_the_same_network_else_of_all(tmp_path):
    planned = plan(["unet", "segnet"], ["cce"], [0, 1], [0], tmp_path, BUNDLES)
    assert [experiment.folder.name for experiment in planned] == ["unet_cce_0", "segnet_cce_0", "unet_cce_1", "segnet_cce_1"]
    assert estimate_time_left_s(planned) is None
    finish(planned[0], 100)
    assert estimate_time_left_s(planned) == 300  # segnet is not known yet: as long as unet
    finish(planned[1], 40)
    assert estimate_time_left_s(planned) == 140


def test_a_run_that_was_only_looked_at_is_not_done(tmp_path):
    """Somebody evaluates a run that was stopped: scores alone do not make it done."""
    (experiment,) = plan(["unet"], ["cce"], [0], [0], tmp_path, BUNDLES)
    finish(experiment, 1)
    experiment.add_to_record(is_done=False)
    assert not experiment.is_done


@pytest.mark.parametrize("folds", [["A/B", "A B"], ["$print(1)"], ["@seed"], ["%x.json::y"]])
def test_sites_that_would_share_a_folder_or_be_run_as_code_are_refused(folds, tmp_path):
    with pytest.raises(ValueError, match="got folds named"):
        plan(["unet"], ["cce"], folds, [0], tmp_path, BUNDLES)


def test_a_sites_name_cannot_leave_the_folder_of_runs(tmp_path):
    (experiment,) = plan(["unet"], ["cce"], ["../../etc"], [0], tmp_path, BUNDLES)
    assert experiment.folder.parent == tmp_path
    assert experiment.fold == "../../etc"


def finish(experiment, duration_s):
    scores = experiment.folder / "evaluation" / "held_out" / "scores.csv"
    scores.parent.mkdir(parents=True)
    Path(scores).touch()
    experiment.add_to_record(settings={}, is_done=True, duration_s=duration_s)
