"""Verbs in processes of their own, killed at random moments, and what they leave behind.

The processes are forks of one that has imported everything, so that kills strike work and not imports.
"""

import hashlib
import json
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path

import monai.bundle
import numpy as np
import pandas as pd
import pytest
import torch

from strokelesion.pipeline import experiments, new_scans  # noqa: F401 (loaded once, before the forks)
from strokelesion.pipeline.checkpoints import Checkpoints, save_checkpoint

ROOT = Path(__file__).parent.parent
PATIENCE_S = 600
QUICK = {"spacing_mm": 4, "batch_size": 8, "intensities": "tissue", "slices": "lesion", "device": "cpu", "panel_scans": 0}
forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(["crashing"])
monai.bundle.ConfigParser({})  # lists MONAI's components, which takes seconds


def build_store(out, inputs):
    """Make the slice store."""
    knobs = {**QUICK, "dataset_dir": str(inputs / "data"), "cache_dir": str(out), "run_dir": str(inputs / "store_run")}
    workflow = monai.bundle.ConfigWorkflow(
        "bundles/resunet.json", workflow_type="train", logging_file=False, **{**knobs, "slices": "all"}
    )
    workflow.initialize()
    for side in ("train", "validate"):
        workflow.parser.get_parsed_content(f"{side}::dataset")


def train(out, inputs):
    """Train four epochs, and note the state of the random generators after each."""
    write = Checkpoints.write

    def noted(self, trainer):
        (self.folder / f"random_{trainer.state.epoch}").write_text(random_states())
        write(self, trainer)

    Checkpoints.write = noted
    knobs = {"epochs": 4, "schedule": "cosine", "resume": True, "run_dir": str(out)}
    run("training", "resunet", inputs, **knobs)


def infer(out, inputs):
    """Segment a cohort, with pages and probabilities."""
    checkpoint = inputs / "dark.pt"
    protocol = {"intensities": "tissue", "spacing_mm": [4.0] * 3, "slice_mm": [192, 224], "neighbors": 0}
    if not checkpoint.exists():
        save_checkpoint({"network_name": "DarkIsLesion", "network": {}, "protocol": protocol}, checkpoint)
    knobs = {"scans": str(inputs / "scans"), "output_dir": str(out), "save_probabilities": True, "amp": False}
    run("inference", "resunet", inputs, network_def={"_target_": "stand_ins.DarkIsLesion"}, checkpoint=str(checkpoint), **knobs)


def tabulate(out, inputs):
    """Train and evaluate two folds, and report on them."""
    knobs = {**QUICK, "cache_dir": str(inputs / "store"), "epochs": 2}
    monai.bundle.run(
        "experiments",
        config_file="bundles/experiments.json",
        logging_file=False,
        networks="resunet",
        losses="dice",
        split="2-fold",
        dataset_dir=str(inputs / "data"),
        runs_dir=str(out / "runs"),
        report_dir=str(out / "report"),
        **{"run_knobs::more": knobs},
    )


WORK = {work.__name__: work for work in (build_store, train, infer, tabulate)}


def run(verb, network, inputs, **knobs):
    """Run a verb on the miniature cohort with the shared store."""
    where = {"dataset_dir": str(inputs / "data"), "cache_dir": str(inputs / "store")}
    monai.bundle.run(verb, config_file=f"bundles/{network}.json", logging_file=False, **{**QUICK, **where, **knobs})


def random_states():
    """Return the state of all global random generators as a digest."""
    legacy = np.random.get_state()  # noqa: NPY002 (what other packages draw from)
    states = (torch.get_rng_state().numpy().tobytes(), repr(legacy), repr(random.getstate()))
    return hashlib.sha256(repr(states).encode()).hexdigest()


def begin(work, out, inputs):
    """Start work in a process of its own; what it prints goes to a file beside its folder."""
    process = forks.Process(target=_in_process, args=(work, out, inputs))
    # The server that forks looks for this module before it is told where.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "tests"))
        process.start()
    return process


def _in_process(work, out, inputs):
    with open(log_of(out), "w") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    os.chdir(ROOT)
    torch.set_num_threads(1)
    WORK[work](out, inputs)


def log_of(out):
    return out.with_name(f"{out.name}.log")


def finish(work, out, inputs):
    """Do work without a disturbance and return how long it took, in seconds."""
    started_s = time.monotonic()
    end(begin(work, out, inputs), out)
    return time.monotonic() - started_s


def end(process, out):
    """Wait for a process to end well."""
    process.join(PATIENCE_S)
    assert process.exitcode == 0, log_of(out).read_text()[-3000:]


def kill(work, out, inputs, after_s):
    """Start work and kill it after a while; return whether it was still at work then."""
    process = begin(work, out, inputs)
    process.join(after_s)
    if process.exitcode is not None:
        end(process, out)
        return False
    process.kill()
    process.join()
    return True


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
