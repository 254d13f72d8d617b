"""One run at a time in a folder: the second is told so, and a killed one is in nobody's way."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
import torch
from checkout import BUNDLES
from model_files import write_model

from strokelesion.networks import ResUNet, UserError
from strokelesion.pipeline.report.experiments import run_experiments
from strokelesion.pipeline.runtime.errors import user_error
from strokelesion.pipeline.runtime.locks import LOCK, claim, claimed, release

HOLD = """
import os, sys, time
from strokelesion.pipeline.runtime.locks import claim
claim(sys.argv[1], "run_dir")
is_child = sys.argv[2] == "forks" and os.fork() == 0
# One system call, so that the lines of both processes stay whole.
os.write(1, f"{os.getpid() if is_child else 'held'}\\n".encode())
time.sleep(600)
"""


@pytest.fixture
def hold():
    """Claim a folder in another process, which may have a child as data loaders do; returns the process."""
    held = []

    def start(folder, forks="alone"):
        command = [sys.executable, "-c", HOLD, str(folder), forks]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        held.append(process)
        process.first_line = process.stdout.readline()
        return process

    yield start
    for process in held:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children, too: they would keep the pipe open
        process.communicate()


def test_a_second_process_is_told_who_holds_the_folder(hold, tmp_path):
    process = hold(tmp_path / "run")
    with pytest.raises(UserError, match=rf"run is in use by another run \(process {process.pid} on .*--run_dir"):
        claim(tmp_path / "run", "run_dir")


def test_a_lock_dies_with_its_process_and_is_then_taken(hold, tmp_path):
    process = hold(tmp_path)
    process.kill()
    process.wait()
    with claimed(tmp_path, "run_dir"):
        assert f"process {os.getpid()} on" in (tmp_path / LOCK).read_text()


def test_children_that_outlive_a_killed_run_hold_nothing(hold, tmp_path):
    """As workers of a data loader do, for some seconds."""
    process = hold(tmp_path, "forks")
    lines = [process.first_line, process.stdout.readline()]
    children = [int(word) for word in lines if word.strip().isdigit()]
    assert len(children) == 1, lines
    process.kill()
    process.wait()
    try:
        with claimed(tmp_path, "run_dir"):
            os.kill(children[0], 0)  # it is still there
    finally:
        os.kill(children[0], 9)


def test_one_process_is_not_in_its_own_way(tmp_path):
    claim(tmp_path, "run_dir")
    claim(tmp_path, "run_dir")
    release(tmp_path)
    release(tmp_path)


def test_what_a_killed_run_left_half_written_is_removed_and_nothing_else(tmp_path):
    parts = [tmp_path / ".last.pt.0123abcd.part", tmp_path / "notes.part", tmp_path / ".mine.part"]
    for part in parts:
        part.touch()
    with claimed(tmp_path, "run_dir"):
        assert [part.exists() for part in parts] == [False, True, True]


def refused(run):
    with pytest.raises((RuntimeError, UserError)) as error:
        run()
    return str(user_error(error.value))


def test_commands_refuse_a_folder_in_use(hold, run_command, phantom_dir, tmp_path):
    data = {"dataset_dir": str(phantom_dir)}
    run_dir, masks, runs_dir, scored, report_dir = (tmp_path / name for name in ("run", "masks", "runs", "scored", "report"))
    weights = write_model(tmp_path / "models" / "any.pt", ResUNet(), "strokelesion.networks.ResUNet")
    evaluation = run_dir / "evaluation" / "all"
    for folder in (run_dir, evaluation, masks, runs_dir, scored):
        hold(folder)
    for scan in phantom_dir.rglob("*t1w*"):
        predicted_mask = tmp_path / "predicted" / scan.relative_to(phantom_dir)
        predicted_mask.parent.mkdir(parents=True)
        predicted_mask.symlink_to(scan)
    before = sorted(path for path in tmp_path.rglob("*"))
    scan = str(next(phantom_dir.rglob("*t1w*")))
    measured = {"run_dir": str(run_dir), "weights": weights, **data}
    predicted = {"predictions": str(tmp_path / "predicted"), "name": "any"}
    said = {
        run_dir: refused(lambda: run_command("training", "resunet", run_dir=str(run_dir), **data)),
        evaluation: refused(lambda: run_command("evaluating", "resunet", scored="all", **measured)),
        masks: refused(lambda: run_command("inference", "resunet", scans=scan, output_dir=str(masks), weights=weights)),
        scored: refused(lambda: run_command("scoring", "resunet", run_dir=str(scored), **predicted, **data)),
        runs_dir: refused(lambda: run_experiments(["resunet"], ["dice"], [0], runs_dir, data, {}, report_dir, BUNDLES)),
    }
    for folder, message in said.items():
        assert message.startswith(f"{folder} is in use by another run (process")
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_release_refuses_a_folder_in_use_before_it_does_anything(hold, run_command, phantom_dir, tmp_path):
    weights = write_model(tmp_path / "models" / "any.pt", ResUNet(), "strokelesion.networks.ResUNet")
    hold(tmp_path / "released")
    before = sorted(path for path in tmp_path.rglob("*"))
    where = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path / "run"), "cache_dir": str(tmp_path / "slices")}
    where |= {"output_dir": str(tmp_path / "released"), "weights": weights}
    assert refused(lambda: run_command("release", "resunet", **where)).startswith(
        f"{tmp_path}/released is in use by another run"
    )
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_run_gives_its_folder_back(run_command, phantom_dir, tmp_path, hold):
    where = {"run_dir": str(tmp_path / "run"), "cache_dir": str(tmp_path / "store"), "dataset_dir": str(phantom_dir)}
    run_command("training", "resunet", epochs=1, slices="lesion", **where)
    assert hold(tmp_path / "run").first_line == "held\n"
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["epoch"] == 1
