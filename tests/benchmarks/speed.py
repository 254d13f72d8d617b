"""How fast the project is and how much memory it takes, beside its peers: input, training, inference.

    python tests/benchmarks/speed.py --python keras=runs/keras/bin/python --python nnunetv2=runs/peers/bin/python \
        --python batchgeneratorsv2=runs/peers/bin/python --python torchio=runs/peers/bin/python

Run it from the root of the repository, on a machine that does nothing else: it takes all cores for about 25 minutes. Peers
live in environments of their own, because TensorBoard loads TensorFlow where it finds it, and so would every program of ours:

    python3.11 -m venv runs/peers && runs/peers/bin/pip install -c constraints.txt nnunetv2 batchgeneratorsv2 torchio
    python3.11 -m venv runs/keras && runs/keras/bin/pip install -c constraints.txt tensorflow-cpu keras nibabel scipy pillow

Candidates take turns, each turn in a fresh process, so that its peak memory is its own and a slow minute hits all. A peer
that cannot be run is named in the table with the reason. `--only input,ceiling` runs a part; `--merge a.json b.json` makes
one table of several. The material is made in the first minutes, and kept; see candidates/material.py. docs/speed.md has the
protocol.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from candidates.machine import describe
from candidates.running import Row, run_case, run_module
from candidates.suite import CASES
from candidates.table import ceilings, judged, markdown

PARTS = ("input", "training", "inference", "ceiling")


def parsed() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--python", action="append", default=[], metavar="PEER=PATH", help="the interpreter of a peer")
    parser.add_argument("--folder", type=Path, default=Path("runs/speed"), help="where the material lies")
    parser.add_argument("--out", type=Path, help="the JSON file; default FOLDER/speed.json")
    parser.add_argument("--repeats", type=int, help="turns of each candidate, instead of the suite's own")
    parser.add_argument("--quick", action="store_true", help="few steps and tiles: whether everything runs, not how fast")
    parser.add_argument("--merge", nargs="+", type=Path, help="measure nothing; make one table of these files")
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - set(PARTS):
        parser.error(f"got --only {','.join(sorted(unknown))}; there are {', '.join(PARTS)}.")
    return options


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Run the suite; return what goes into the file."""
    machine, pythons = describe(), dict(given.split("=", 1) for given in options.python)
    run_module("material", (), pythons.get("strokelesion", sys.executable), machine["cores"], options.folder)
    rows: list[Row] = []
    for case in CASES:
        if case.part in options.only.split(","):
            rows += run_case(case, pythons, options.folder, options.repeats, options.quick)
    return {"machine": machine, "quick": options.quick, "rows": [asdict(row) for row in rows]}


def merged(files: Iterable[Path]) -> dict[str, Any]:
    """Return several files as one; what was measured again replaces what was there."""
    contents = [json.loads(path.read_text()) for path in files]
    machines = {(content["machine"]["cpu"], content["machine"]["cores"]) for content in contents}
    if len(machines) > 1:
        raise SystemExit(f"got figures of {len(machines)} machines, {sorted(machines)}; expected those of one.")
    rows = {(row["case"], row["candidate"]): row for content in contents for row in content["rows"]}
    return {**contents[-1], "rows": list(rows.values())}


def main() -> None:
    """Measure, write and print."""
    options = parsed()
    result = merged(options.merge) if options.merge else measured(options)
    rows = [Row(**row) for row in result["rows"]]
    result["targets"] = judged(rows)
    out = options.out or options.folder / "speed.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\n{result['machine']}\n\n{markdown(rows)}\n\nceiling\n{ceilings(rows)}\n")
    if result["quick"]:
        print("few steps and tiles: this shows that everything runs, not how fast")
    for one in result["targets"]:
        outcome = "reached    " if one["met"] else "NOT REACHED"
        print(f"{outcome} {one['case']}, {one['figure']}: {one['target']}: {one['reached']}")
    print(f"\n{out}")


if __name__ == "__main__":
    main()
