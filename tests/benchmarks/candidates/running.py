"""Candidates in turn, each in a fresh process. Knows the standard library only.

A process begins with the peak memory of the one that started it, so the one that does must be small.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from candidates.suite import Candidate, Case

LONGEST_S = 1800
SOURCES = Path(__file__).parent.parent


@dataclass
class Row:
    """What one candidate's turns gave."""

    part: str
    case: str
    candidate: str
    threads: int
    figures: dict[str, list[float]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    note: str = ""
    failed: str = ""

    def add(self, result: Mapping[str, Any]) -> None:
        """Take the result of a turn."""
        for name, value in result["figures"].items():
            self.figures.setdefault(name, []).append(value)
        self.versions, self.note = result["versions"], result["note"]


def environment(threads: int, folder: Path) -> dict[str, str]:
    """Return the environment of a candidate: its threads, no GPU, and the folders that nnU-Net wants to know."""
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    folders = {f"nnUNet_{name}": str(folder / "nnunet" / name) for name in ("raw", "preprocessed", "results")}
    settings = {**dict.fromkeys(counts, str(threads)), **folders, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(SOURCES)}
    return {**os.environ, **settings}


def run_module(module: str, arguments: Sequence[str], python: str, threads: int, folder: Path, processes: int = 1) -> str:
    """Return what a program of this package prints; several processes of it divide the threads.

    Raises:
        RuntimeError: with the last line of its complaint, when it fails.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [python, *launcher, "-m", f"candidates.{module}", str(folder), *arguments]
    settings = environment(threads // processes, folder)
    try:
        done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=LONGEST_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(str(error)) from None
    if done.returncode:
        # The launcher of several processes ends its complaint with a line of these.
        said = [line for line in done.stderr.splitlines() if line.strip("=- ")]
        raise RuntimeError((said or [f"exit status {done.returncode}"])[-1])
    return done.stdout


def take_turn(row: Row, candidate: Candidate, pythons: Mapping[str, str], folder: Path, quick: bool) -> None:
    """Run a candidate once and take what it measured, or why it could not."""
    if row.failed:
        return
    python = pythons.get(candidate.python, sys.executable)
    arguments = (*candidate.arguments, *(candidate.quick if quick else ()))
    try:
        printed = run_module(candidate.module, arguments, python, row.threads, folder, candidate.processes)
        row.add(json.loads(printed.splitlines()[-1]))
    except RuntimeError as error:
        row.failed = str(error)
    print(
        f"{row.case}: {row.candidate}: {row.failed or {name: values[-1] for name, values in row.figures.items()}}", flush=True
    )


def run_case(case: Case, pythons: Mapping[str, str], folder: Path, repeats: int | None, quick: bool) -> list[Row]:
    """Return a row for each candidate of a case, after all had their turns, one after the other."""
    threads = case.threads or len(os.sched_getaffinity(0))
    rows = [Row(case.part, case.name, candidate.name, threads) for candidate in case.candidates]
    for _ in range(repeats or case.repeats):
        for row, candidate in zip(rows, case.candidates, strict=True):
            take_turn(row, candidate, pythons, folder, quick)
    return rows
