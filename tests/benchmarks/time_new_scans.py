"""What `inference` costs, scan by scan: seconds of preparation, registration, page and all else, and the process's peak memory.

    python tests/benchmarks/time_new_scans.py SCANS OUTPUT [--prepare none|bias|mni] [--csv seconds.csv]

Preparation is finding the brain, the bias field, and bringing the head to MNI space, with its registration where `--prepare
mni` asks for one; `registration` is the one for the tables. Run it on a machine that does nothing else.
"""

import argparse
import functools
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from monai.bundle import run

from strokelesion.pipeline.derivatives import scan_pages
from strokelesion.pipeline.inference.results import Results
from strokelesion.pipeline.lesions import measuring
from strokelesion.pipeline.options.workflow import bundle_root
from strokelesion.transforms import CorrectBiasd, PlaceInMNId
from strokelesion.transforms.brain import BrainExtractor

PREPARATION = {"brain": (BrainExtractor, "__call__"), "bias": (CorrectBiasd, "__call__"), "mni": (PlaceInMNId, "__call__")}
OUTPUT = {
    "registration": (measuring, "measure_lesions"),
    "page": (scan_pages, "write_scan_page"),
    "output": (Results, "write"),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans")
    parser.add_argument("output", type=Path)
    parser.add_argument("--prepare", default="none")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    seconds: dict[str, float] = defaultdict(float)
    rows: list[dict[str, Any]] = []
    started_s = time.perf_counter()

    def timed(stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def wrapper(*given: Any, **named: Any) -> Any:
            before_s = time.perf_counter()
            result = call(*given, **named)
            seconds[stage] += time.perf_counter() - before_s
            if stage == "output":
                finish_row()
            return result

        return wrapper

    def finish_row() -> None:
        nonlocal started_s
        now_s = time.perf_counter()
        rows.append({**seconds, "all": now_s - started_s, "peak_gib": peak_gib()})
        print(rows[-1], flush=True)
        seconds.clear()
        started_s = now_s

    for stage, (owner, name) in (PREPARATION | OUTPUT).items():
        setattr(owner, name, timed(stage, getattr(owner, name)))
    run(
        run_id="inference",
        config_file=f"{bundle_root()}/resunet.json",
        scans=arguments.scans,
        output_dir=str(arguments.output),
        prepare=arguments.prepare,
        overwrite=True,
    )
    table = pd.DataFrame(rows).fillna(0)
    table["preparation"] = table[[stage for stage in PREPARATION if stage in table]].sum(axis=1)
    print(table.describe().loc[["mean", "50%", "max"]].round(2).to_string())
    if arguments.csv:
        table.round(3).to_csv(arguments.csv, index=False)


def peak_gib() -> float:
    """Return the most memory that the process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
