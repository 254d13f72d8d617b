"""One run at a time in a folder, or one per part: another is refused, and a killed run blocks nobody."""

import errno
import fcntl
import os
from unittest.mock import create_autospec

import pytest
import torch
from crashing import forks, start
from model_files import write_model

from strokelesion.networks import ResUNet, UserError
from strokelesion.pipeline.runtime.errors import user_error
from strokelesion.pipeline.runtime.locks import LOCK, claim, claimed, release


def hold_until_told(folders, part, pipe):
    """Hold folders until the other end of the pipe is closed, in a process that has a child, as data loaders have them."""
    for folder in folders:
        claim(folder, "run_dir", part)
    if child := os.fork():
        pipe.send(child)
    pipe.poll(None)


@pytest.fixture
def hold():
    """Hold folders in another process; the fixture's function returns the process, and its child as `child`."""
    held = []

    def begin(*folders, part=None):
        mine, other = forks.Pipe()
        process = start(hold_until_told, folders, part, other)
        other.close()
        process.child = mine.recv()
        held.append((process, mine))
        return process

    yield begin
    for process, pipe in held:
        pipe.close()
        process.join()


@pytest.mark.parametrize(
    ("held", "asked", "is_free"),
    [(None, None, False), (None, 1, False), (2, None, False), (2, 2, False), (2, 1, True), (2, 3, True)],
)
def test_only_runs_on_other_parts_share_a_folder_and_others_are_told_who_holds_it(held, asked, is_free, hold, tmp_path):
    folder = tmp_path / "run"
    holder = hold(folder, part=held)
    if not is_free:
        with pytest.raises(UserError, match=rf"run is in use by another run \(process {holder.pid} on .*--run_dir"):
            claim(folder, "run_dir", asked)
        holder.kill()
        holder.join()
    os.kill(holder.child, 0)  # a child that outlives a killed run, as workers of a data loader do, holds nothing
    with claimed(folder, "run_dir", asked):
        pass
    assert (folder / LOCK).read_text().startswith(f"process {os.getpid()} on ")


def test_one_process_is_not_in_its_own_way(tmp_path):
    claim(tmp_path, "run_dir")
    claim(tmp_path, "run_dir")
    release(tmp_path)
    release(tmp_path)


@pytest.mark.parametrize("part", [None, 1])
def test_a_run_on_the_whole_folder_removes_what_a_killed_run_left_half_written_and_nothing_else(part, tmp_path):
    parts = [tmp_path / ".last.pt.0123abcd.part", tmp_path / "notes.part", tmp_path / ".mine.part"]
    for path in parts:
        path.touch()
    with claimed(tmp_path, "run_dir", part):
        assert [path.exists() for path in parts] == [part is not None, True, True]


def test_where_there_are_no_locks_a_run_warns_and_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("fcntl.lockf", create_autospec(fcntl.lockf, side_effect=OSError(errno.ENOLCK, "No locks available")))
    with claimed(tmp_path, "run_dir"):
        assert f"{tmp_path} cannot be locked ([Errno 37] No locks available): see to it that no second run" in caplog.text


def test_commands_refuse_a_folder_in_use_before_they_do_anything(hold, run_command, phantom_dir, tmp_path):
    data, scan = {"dataset_dir": str(phantom_dir)}, str(next(phantom_dir.rglob("*t1w*")))
    weights = write_model(tmp_path / "models" / "any.pt", ResUNet(), "strokelesion.networks.ResUNet")
    for path in phantom_dir.rglob("*t1w*"):
        predicted_mask = tmp_path / "predicted" / path.relative_to(phantom_dir)
        predicted_mask.parent.mkdir(parents=True)
        predicted_mask.symlink_to(path)
    work = {
        "training": {**data},
        "evaluating": {"scored": "all", "weights": weights, **data},
        "inference": {"scans": scan, "weights": weights},
        "release": {"weights": weights, **data},
        "scoring": {"predictions": str(tmp_path / "predicted"), "name": "any", **data},
        "experiments": {**data},
    }
    option = {"inference": "output_dir", "release": "output_dir", "experiments": "runs_dir"}
    folders = {command: tmp_path / command for command in work}
    locked = {**folders, "evaluating": folders["evaluating"] / "evaluation" / "all"}
    hold(*locked.values())
    before = sorted(tmp_path.rglob("*"))
    for command, options in work.items():
        bundle = "experiments" if command == "experiments" else "resunet"
        with pytest.raises((RuntimeError, UserError)) as error:
            run_command(command, bundle, **{option.get(command, "run_dir"): str(folders[command])}, **options)
        assert str(user_error(error.value)).startswith(f"{locked[command]} is in use by another run (process")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_gives_its_folder_back(run_command, phantom_dir, tmp_path, hold):
    where = {"run_dir": str(tmp_path / "run"), "dataset_dir": str(phantom_dir)}
    run_command("training", "resunet", epochs=1, slices="lesion", **where)
    hold(tmp_path / "run")
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["epoch"] == 1
