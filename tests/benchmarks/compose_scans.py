"""How many synthetic scans are made in a minute, and where the time goes.

    python tests/benchmarks/compose_scans.py --heads /data/heads --masks /data/masks [--scans 10] [--spacing_mm 1]

Scans are made one after the other in one process, with all of torch's threads; none is written.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from candidates.bundle import configured
from monai.transforms import Compose

from strokelesion.pipeline.synthesis.cohort import compose_records, read_material


def steps_of(chain: Compose) -> Iterator[Any]:
    """Yield the transforms of a chain, those of chains in it one by one."""
    for step in chain.transforms:
        yield from steps_of(step) if isinstance(step, Compose) else [step]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", required=True)
    parser.add_argument("--masks")
    parser.add_argument("--material_dir", default="runs/material")
    parser.add_argument("--scans", type=int, default=10)
    parser.add_argument("--spacing_mm", type=float, default=1.0)
    arguments = parser.parse_args()
    config = configured("synthesis", "synthesis", heads=arguments.heads, spacing_mm=arguments.spacing_mm)
    chain = config.get_parsed_content("compose").chain
    material = read_material(arguments.heads, arguments.masks, arguments.material_dir, "training")
    seconds: defaultdict[str, float] = defaultdict(float)
    for record in compose_records(material, "training", arguments.scans):
        sample = record
        for step in steps_of(deepcopy(chain).set_random_state(seed=record["seed"])):
            started_s = time.perf_counter()
            sample = step(sample)
            seconds[type(step).__name__] += time.perf_counter() - started_s
    total = sum(seconds.values())
    for name, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{name:28s}{spent / arguments.scans:8.2f} s a scan {100 * spent / total:5.0f} %")
    print(f"{60 * arguments.scans / total:.1f} scans a minute at {arguments.spacing_mm:g} mm")


if __name__ == "__main__":
    main()
