"""Whether `inference` grows as its cohort does: time and memory while many small scans are segmented, and when all are done.

    python tests/benchmarks/scale_inference.py FOLDER [--scans 10000] [--every 100] [--plot docs/scale.png] [--segmented 8]

The cohort is hard links to a few small heads, and the network a stand-in that calls dark tissue lesion: what is measured is the
bookkeeping. Two processes, one after the other, run the command: the first segments all scans, the second finds all of
them done. FOLDER/scale.csv gets their rows: `run`, `stage`, `scans` (at that stage), `elapsed_s`, `processor_s` (others on the
machine do not lengthen it) and `memory_mib` (resident). With `--segmented`, only so many scans are segmented; the results of
the others are copies, and the second run measures listing, looking and gathering of large cohorts in minutes.
"""

import argparse
import functools
import itertools
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from strokelesion.pipeline.inference.results import Results
from strokelesion.pipeline.models.description import Description, Protocol
from strokelesion.pipeline.models.model_files import write_checkpoint
from strokelesion.pipeline.options.workflow import bundle_root
from strokelesion.pipeline.report.figures import BLUE, DOTS_PER_INCH, ORANGE, WIDTH_IN, styled

TESTS = Path(__file__).parent.parent / "helpers"
SHAPES = ((30, 36, 28), (32, 34, 30), (28, 38, 27), (31, 37, 29))
EDGE_MM = 5.0
RUNS = ("first run", "all done before")
NETWORK = {"_target_": "stand_ins.DarkIsLesion"}
MODEL = Description(network=NETWORK, protocol=Protocol(spacing_mm=(EDGE_MM,) * 3))


def main() -> None:
    """Make the cohort, measure both runs and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scans", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--segmented", type=int)
    arguments = parser.parse_args()
    segmented = arguments.segmented or arguments.scans
    make_cohort(arguments.folder, segmented)
    processes = multiprocessing.get_context("spawn")
    for run in RUNS:
        if run == RUNS[1] and segmented < arguments.scans:
            copy_results(arguments.folder, segmented, arguments.scans)
        process = processes.Process(target=measure, args=(run, arguments.folder, arguments.every))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"{run}: status {process.exitcode}")
    table = pd.concat([pd.read_csv(arguments.folder / f"{run}.csv") for run in RUNS])
    table.to_csv(arguments.folder / "scale.csv", index=False)
    print(table.groupby(["run", "stage"], sort=False).last().to_string())
    if arguments.plot:
        draw(table, arguments.plot)


def make_cohort(folder: Path, scans: int) -> None:
    """Write a few heads, a BIDS data set of links to them, and the model of the stand-in."""
    (folder / "heads").mkdir(parents=True)
    heads = [write_head(folder / "heads" / f"{number}.nii.gz", shape, number) for number, shape in enumerate(SHAPES)]
    for number in range(scans):
        link_scan(folder, heads[number % len(heads)], number)
    write_checkpoint(folder / "dark.pt", MODEL, {}, {"epoch": 0, "init": None})


def link_scan(folder: Path, head: Path, number: int) -> None:
    """Add a scan to the data set, a hard link to a head."""
    scan = folder / "scans" / f"sub-{number:06d}" / "anat" / f"sub-{number:06d}_T1w.nii.gz"
    scan.parent.mkdir(parents=True)
    os.link(head, scan)


def copy_results(folder: Path, segmented: int, scans: int) -> None:
    """Add scans to the data set, with copies of the results of the segmented ones under their names."""
    for number in range(segmented, scans):
        old, new = f"sub-{number % segmented:06d}", f"sub-{number:06d}"
        link_scan(folder, folder / "scans" / old / "anat" / f"{old}_T1w.nii.gz", number)
        for file in (folder / "results" / old / "anat").iterdir():
            copy = folder / "results" / new / "anat" / file.name.replace(old, new)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".json":
                copy.write_text(file.read_text().replace(old, new))
            else:
                os.link(file, copy)


def write_head(path: Path, shape: tuple[int, int, int], seed: int) -> Path:
    """Write an ellipsoid of bright noise with a dark ball in it, and return its path."""
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, edge) for edge in shape), indexing="ij"))
    image = np.random.default_rng(seed).uniform(90, 110, shape)
    image[np.linalg.norm(places, axis=0) > 0.9] = 0
    image[np.linalg.norm(places - np.array([0.3, 0, 0.1])[:, None, None, None], axis=0) < 0.25] = 25
    nib.save(nib.Nifti1Image(image.astype(np.float32), np.diag([EDGE_MM] * 3 + [1])), path)
    return path


def measure(run: str, folder: Path, every: int) -> None:
    """Run the command once in this process, and leave its rows in a table of its own."""
    rows: list[dict[str, Any]] = []
    started_s, used_s = time.perf_counter(), time.process_time()

    def note(stage: str, scans: int) -> None:
        now = {"elapsed_s": time.perf_counter() - started_s, "processor_s": time.process_time() - used_s}
        rows.append({"run": run, "stage": stage, "scans": scans, **now, "memory_mib": resident_mib()})

    def watch(name: str, stage: str, is_once: bool) -> None:
        call, count = getattr(Results, name), itertools.count(1)

        @functools.wraps(call)
        def wrapper(results: Results, *given: Any, **named: Any) -> Any:
            if is_once:
                note(f"before {stage}", len(given[0]))
            result = call(results, *given, **named)
            scans = len(given[0]) if is_once else next(count)
            if is_once or scans % every == 0:
                note(stage, scans)
            return result

        setattr(Results, name, wrapper)

    for name, stage in {"clear": "clearing", "is_done": "looking", "write": "segmenting", "gather": "tables"}.items():
        watch(name, stage, is_once=name in ("clear", "gather"))
    sys.path.insert(0, str(TESTS))
    where = {"scans": "scans", "weights": "dark.pt", "output_dir": "results"}
    options: dict[str, Any] = {name: str(folder / path) for name, path in where.items()}
    options |= {"network_def": NETWORK, "pages": False, "amp": False, "device": "cpu"}
    monai.bundle.run("inference", config_file=f"{bundle_root()}/resunet.json", **options)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"{run}: {rows[-1]['elapsed_s']:.0f} s, {peak_mib:.0f} MiB at most")
    pd.DataFrame(rows).round(3).to_csv(folder / f"{run}.csv", index=False)


@styled
def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw time and memory over the scans that are segmented, or found to be done; a point when the tables are written."""
    figure = Figure(figsize=(WIDTH_IN, 2.6), layout="constrained")
    times, memory = figure.subplots(1, 2)
    for run, stage, color in zip(RUNS, ("segmenting", "looking"), (BLUE, ORANGE), strict=True):
        rows = table[(table["run"] == run) & table["stage"].isin([stage, "tables"])]
        times.plot(rows["scans"], rows["elapsed_s"] / 60, color=color, linewidth=0.8, linestyle="dotted")
        for axes, values in ((times, rows["processor_s"] / 60), (memory, rows["memory_mib"])):
            axes.plot(rows["scans"], values, color=color, label=run)
            axes.plot(rows["scans"].iloc[-1:], values.iloc[-1:], "o", color=color, markersize=4)
    times.set(title="minutes of one processor; dotted: elapsed", xlabel="scans", ylim=(0, 1.1 * times.dataLim.y1))
    memory.set(title="memory, MiB", xlabel="scans", ylim=(0, 1.1 * memory.dataLim.y1))
    times.legend(loc="upper left")
    memory.legend(loc="lower right")
    figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})


def resident_mib() -> float:
    """Return the memory that this process holds now, as Linux tells."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
