"""Commands in processes of their own, killed before any change of a file, and what they leave behind.

The processes are forks of one that has imported everything, so that kills strike work and not imports.
"""

import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys

import monai.bundle
import numpy as np
import pandas as pd
import pytest
import torch
from checkout import ROOT
from configured import configured

from strokelesion.pipeline.inference import new_scans  # noqa: F401 (loaded once, before the forks)
from strokelesion.pipeline.options.bundle_files import options_taken
from strokelesion.pipeline.review.saving import find_reviewed, read_labels
from strokelesion.pipeline.training.checkpoints import Checkpoints

QUICK = {"spacing_mm": 4, "batch_size": 8, "intensities": "tissue", "slices": "lesion", "device": "cpu", "panel_scans": 0}
forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(["crashing"])
monai.bundle.ConfigParser({})  # lists MONAI's components, which takes seconds


def build_store(out, inputs):
    """Make the slice store."""
    where = {"dataset_dir": str(inputs / "data"), "cache_dir": str(out), "run_dir": str(inputs / "store_run")}
    parser = configured("resunet", **{**QUICK, **where, "slices": "all"})
    for side in ("train", "validate"):
        parser.get_parsed_content(f"{side}::dataset")


def train(out, inputs):
    """Train four epochs, and note the state of the random generators after each."""
    write = Checkpoints.write

    def noted(self, trainer):
        (self.folder / f"random_{trainer.state.epoch}").write_text(random_states())
        write(self, trainer)

    Checkpoints.write = noted
    run("training", "resunet", inputs, epochs=4, schedule="cosine", resume=True, run_dir=str(out))


def infer(out, inputs):
    """Segment a cohort, with pages and probabilities."""
    options = {"scans": str(inputs / "scans"), "output_dir": str(out), "save_probabilities": True, "amp": False}
    options |= {"weights": str(inputs / "dark.pt"), "network_def": {"_target_": "stand_ins.DarkIsLesion"}}
    run_command("inference", "resunet", **options)


def tabulate(out, inputs):
    """Train and evaluate two folds, and report on them."""
    options = {"networks": "resunet", "losses": "dice", "split": "2-fold", "epochs": 2}
    run("experiments", "experiments", inputs, runs_dir=str(out / "runs"), report_dir=str(out / "report"), **options)


def correct(out, _):
    """Shift the mask of the only scan of a results folder by a voxel, and save it."""
    (scan,) = find_reviewed(out).values()
    labels = np.roll(read_labels(scan), 1, axis=0)
    scan.correct(scan.version(scan.decision()), labels, "AB", "")


WORK = {work.__name__: work for work in (build_store, train, infer, tabulate)}
REVIEW = {"correct": correct}


def run(command, bundle, inputs, **options):
    """Run a command on the miniature cohort with the shared store."""
    run_command(command, bundle, dataset_dir=str(inputs / "data"), cache_dir=str(inputs / "store"), **options)


def run_command(command, bundle, **options):
    """Run a command in this process; of the options in `QUICK`, it gets those that it takes."""
    config_file = ROOT / f"bundles/{bundle}.json"
    taken = options_taken(command, json.loads(config_file.read_text()))
    quick = {name: value for name, value in QUICK.items() if name in taken}
    monai.bundle.run(command, config_file=str(config_file), logging_file=False, **{**quick, **options})


def random_states():
    """Return the state of all global random generators as a hash."""
    legacy = np.random.get_state()  # noqa: NPY002 (what other packages draw from)
    states = (torch.get_rng_state().numpy().tobytes(), repr(legacy), repr(random.getstate()))
    return hashlib.sha256(repr(states).encode()).hexdigest()


def start(work, *given):
    """Start work in a process of its own, which ends with this one, and return it."""
    process = forks.Process(target=work, args=given, daemon=True)
    # The server that forks looks for this module before it is told where.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "tests/helpers"), prepend=os.pathsep)
        process.start()
    return process


def carry_out(work, out, inputs, killed_at=None):
    """Do work in a process of its own; return the number of its changes of files in `out`, or None if it was killed.

    Args:
        work: Name of the work.
        out: Folder of the results; what the work prints goes to a file beside it.
        inputs: Folder of the inputs.
        killed_at: Number of the change at which the process is killed, before it makes the change.
    """
    counted, counting = forks.Pipe(duplex=False)
    process = start(_in_process, work, out, inputs, killed_at, counting)
    counting.close()
    try:
        changes = counted.recv()
    except EOFError:
        changes = None
    process.join()
    log = out.with_name(f"{out.name}.log").read_text()[-3000:]
    assert process.exitcode == (0 if killed_at is None or changes is not None else -signal.SIGKILL), log
    return changes


def _in_process(work, out, inputs, killed_at, counting):
    changes = 0

    def count(event, given):
        nonlocal changes
        is_change = event in ("os.rename", "os.remove", "os.mkdir") or (
            event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if not is_change or not str(given[0]).startswith(f"{out}{os.sep}"):
            return
        changes += 1
        if changes == killed_at:
            if event == "os.rename":  # of a whole file to its name: as if it were half written
                os.truncate(given[0], os.path.getsize(given[0]) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    with open(out.with_name(f"{out.name}.log"), "w") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    os.chdir(out.parent)
    torch.set_num_threads(1)
    sys.addaudithook(count)
    {**WORK, **REVIEW}[work](out, inputs)
    counting.send(changes)


def left_behind(out):
    """Return every file of a folder with its content, times taken out, and without TensorBoard's, which are times."""
    files = {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if path.is_file()}
    return {name: content(path) for name, path in files.items() if path.name != ".lock" and "tfevents" not in name}


def content(path):
    """Return what must be the same in a file, whenever and however often it was begun."""
    if path.name == "history.csv":
        return pd.read_csv(path).drop(columns="slices_per_s", errors="ignore").to_csv()
    if path.name == "experiment.json":
        return {key: value for key, value in json.loads(path.read_text()).items() if key != "duration_s"}
    return path.read_bytes()
