"""How fast the project is and how much memory it takes, beside its peers: input, training, inference.

    python tests/benchmarks/speed.py --python keras=runs/keras/bin/python --python nnunetv2=runs/peers/bin/python \
        --python batchgeneratorsv2=runs/peers/bin/python --python torchio=runs/peers/bin/python

Run it from the root of the repository, on a machine that does nothing else: it takes all cores for about 25 minutes. Peers
live in environments of their own, because TensorBoard loads TensorFlow where it finds it, and so would every program of ours:

    python3.11 -m venv runs/peers && runs/peers/bin/pip install -c constraints.txt nnunetv2 batchgeneratorsv2 torchio
    python3.11 -m venv runs/keras && runs/keras/bin/pip install -c constraints.txt tensorflow-cpu keras nibabel scipy pillow

Candidates take turns, each turn in a fresh process, so that its peak memory is its own and a slow minute hits all. A process
begins with the peak memory of the one that started it, so this program knows the standard library only. A peer that cannot
be run is named in the table with the reason. `--only input,training` runs a part. The material is made in the first minutes,
and kept; see candidates/material.py. docs/speed.md has the protocol.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from candidates.measured import machine

LONGEST_S = 1800
# A ratio says how many times better the first of the case is.
HEAD = ("case", "candidate", "median", "range", "ratio", "peak GiB", "ratio", "further figures", "remark")
UNITS = {"slices_per_s": "slices/s", "epoch_slices_per_s": "slices/s", "scan_s": "s"}
LESS_IS_BETTER = ("scan_s", "peak_gib")


@dataclass(frozen=True)
class Candidate:
    """One program at one kind of work.

    Attributes:
        name: Name in the table.
        words: Program of `candidates`, and its command line after the folder of the material.
        python: Owner of the interpreter that runs it, a name for `--python`.
        quick: Further words that make it short, for trying the suite out.
        processes: Number of processes that torch's launcher starts; they divide the threads among them.
    """

    name: str
    words: str
    python: str = "strokelesion"
    quick: str = ""
    processes: int = 1


@dataclass(frozen=True)
class Case:
    """One kind of work and its candidates, the project's first: ratios are to that one.

    Attributes:
        part: One of `PARTS`.
        name: Name in the table.
        figure: Figure that is compared.
        candidates: Candidates in turn.
        repeats: Number of turns.
        threads: Threads of each candidate; 0 is as many as there are cores.
    """

    part: str
    name: str
    figure: str
    candidates: tuple[Candidate, ...]
    repeats: int = 1
    threads: int = 0


def training(network: str, repeats: int = 1, numbers: Sequence[str] = ("single",)) -> Case:
    """Return the training of one network by the project, and by Keras in some number formats."""
    ours = f"training_strokelesion {network}"
    two = Candidate("strokelesion, two processes", ours, quick="4", processes=2)
    names = ("Keras" if one == "single" else f"Keras, {one}" for one in numbers)
    peers = (Candidate(n, f"training_keras {network} {one}", "keras", "4") for n, one in zip(names, numbers, strict=True))
    candidates = (Candidate("strokelesion", ours, quick="4"), two, *peers)
    return Case("training", f"training, {network}", "epoch_slices_per_s", candidates, repeats)


def inference(name: str, repeats: int, ours: Mapping[str, str], nnunet: str = "") -> Case:
    """Return inference by the project in some ways, and by nnU-Net where `network` or `file` says which part of it."""
    candidates = [Candidate(title, f"inference_strokelesion {words}") for title, words in ours.items()]
    for size in ("2d", "3d_fullres") if nnunet else ():
        candidates.append(Candidate(f"nnU-Net, {size}", f"inference_nnunet {nnunet} {size}", "nnunetv2", "2"))
    return Case("inference", name, "scan_s", tuple(candidates), repeats)


INPUTS = (
    Candidate("strokelesion", "inputs strokelesion"),
    Candidate("MONAI, dictionary chain", "inputs monai"),
    Candidate("MONAI, fused chain", "inputs monai_fused"),
    Candidate("batchgeneratorsv2", "inputs batchgeneratorsv2", python="batchgeneratorsv2"),
    Candidate("TorchIO", "inputs torchio", python="torchio"),
)
ALONE = {"strokelesion, ResUNet": "network axial", "strokelesion, ResUNet, two planes": "network axial,coronal"}
CASES = (
    Case("input", "input, one thread", "slices_per_s", INPUTS, repeats=3, threads=1),
    training("resunet", 2, ("single", "bfloat16")),
    training("unet"),
    training("segnet"),
    inference("network alone", 2, ALONE, "network"),
    inference("file to file", 2, {"strokelesion": "file first"}, "file"),
    inference("file to file, registered before", 3, {"strokelesion": "file registered"}),
)
PARTS = tuple(dict.fromkeys(case.part for case in CASES))


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

    def median(self, figure: str) -> float:
        """Return the median of a figure over the turns."""
        return median(self.figures[figure])

    def gain_of(self, first: "Row", figure: str) -> str:
        """Return how many times better the first row of the case is by a figure."""
        if first is self or first.failed:
            return ""
        ratio = self.median(figure) / first.median(figure)
        return f"{ratio if figure in LESS_IS_BETTER else 1 / ratio:.2f}x"

    def cells(self, first: "Row") -> tuple[str, ...]:
        """Return a line of the table; `first` is the project's row of the same case."""
        if self.failed:
            return (self.case, self.candidate, "not measured", *[""] * (len(HEAD) - 4), self.failed)
        figure = next(case.figure for case in CASES if case.name == self.case)
        others = (name for name in self.figures if name not in (figure, "peak_gib"))
        return (
            self.case,
            self.candidate,
            f"{self.median(figure):.4g} {UNITS[figure]}",
            f"{min(self.figures[figure]):.4g} to {max(self.figures[figure]):.4g}",
            self.gain_of(first, figure),
            f"{self.median('peak_gib'):.2f}",
            self.gain_of(first, "peak_gib"),
            ", ".join(f"{name} {self.median(name):.4g}" for name in others),
            self.note,
        )


def environment(threads: int, folder: Path) -> dict[str, str]:
    """Return the environment of a candidate: its threads, no GPU, and the folders that nnU-Net wants to know."""
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    folders = {f"nnUNet_{name}": str(folder / "nnunet" / name) for name in ("raw", "preprocessed", "results")}
    sources = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parent)}
    return {**os.environ, **dict.fromkeys(counts, str(threads)), **folders, **sources}


def run_module(words: Sequence[str], python: str, threads: int, folder: Path, processes: int = 1) -> str:
    """Return what a program of `candidates` prints; several processes of it divide the threads.

    Raises:
        RuntimeError: It failed; the message is the last line of its complaint.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [python, *launcher, "-m", f"candidates.{words[0]}", str(folder), *words[1:]]
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


def take_turn(row: Row, candidate: Candidate, options: argparse.Namespace) -> None:
    """Run a candidate once and take what it measured, or why it could not."""
    if row.failed:
        return
    words = f"{candidate.words} {candidate.quick if options.quick else ''}".split()
    python = options.python.get(candidate.python, sys.executable)
    try:
        printed = run_module(words, python, row.threads, options.folder, candidate.processes)
    except RuntimeError as error:
        row.failed = str(error)
    else:
        result = json.loads(printed.splitlines()[-1])
        row.versions, row.note = result["versions"], result["note"]
        for name, value in result["figures"].items():
            row.figures.setdefault(name, []).append(value)
    latest = {name: values[-1] for name, values in row.figures.items()}
    print(f"{row.case}: {row.candidate}: {row.failed or latest}", flush=True)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the suite; return what goes into the file."""
    about = machine()
    run_module(["material"], options.python.get("strokelesion", sys.executable), about["cores"], options.folder)
    rows: list[Row] = []
    for case in (case for case in CASES if case.part in options.only.split(",")):
        ours = [Row(case.part, case.name, one.name, case.threads or about["cores"]) for one in case.candidates]
        for _ in range(options.repeats or case.repeats):
            for row, candidate in zip(ours, case.candidates, strict=True):
                take_turn(row, candidate, options)
        rows += ours
    return {"machine": about, "quick": options.quick, "rows": [asdict(row) for row in rows]}


def markdown(rows: Sequence[Row]) -> str:
    """Return what was compared as a table."""
    first = {row.case: row for row in reversed(rows)}
    compared = [row.cells(first[row.case]) for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in (HEAD, ["---"] * len(HEAD), *compared))


def read_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--python", action="append", default=[], metavar="PEER=PATH", help="the interpreter of a peer")
    parser.add_argument("--folder", type=Path, default=Path("runs/speed"), help="where the material lies")
    parser.add_argument("--out", type=Path, help="the JSON file; default FOLDER/speed.json")
    parser.add_argument("--repeats", type=int, help="turns of each candidate, instead of the suite's own")
    parser.add_argument("--quick", action="store_true", help="few steps and tiles: whether everything runs, not how fast")
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - set(PARTS):
        parser.error(f"got --only {','.join(sorted(unknown))}; there are {', '.join(PARTS)}.")
    options.python = dict(given.split("=", 1) for given in options.python)
    return options


def main() -> None:
    """Measure, write and print."""
    options = read_options()
    result = measure(options)
    rows = [Row(**row) for row in result["rows"]]
    out = options.out or options.folder / "speed.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\n{result['machine']}\n\n{markdown(rows)}\n")
    print("few steps and tiles: this shows that everything runs, not how fast" if result["quick"] else "", out, sep="\n")


if __name__ == "__main__":
    main()
