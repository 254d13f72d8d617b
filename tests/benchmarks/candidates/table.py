"""Rows as one table, and whether the targets are reached."""

from collections.abc import Collection, Iterable, Sequence
from statistics import median
from typing import Any

from candidates.running import Row
from candidates.suite import CASES, TARGETS, Target

# A ratio says how many times better the first of the case is.
HEAD = ("case", "candidate", "median", "range", "ratio", "peak GiB", "ratio", "further figures", "remark")
UNITS = {"slices_per_s": "slices/s", "epoch_slices_per_s": "slices/s", "scan_s": "s"}


def value(row: Row, figure: str) -> float:
    """Return the median of a figure over a candidate's turns."""
    return median(row.figures[figure])


def gain(ours: Row, peer: Row, figure: str) -> float:
    """Return how many times better the project is by a figure."""
    more_is_better = next(case.more_is_better for case in CASES if case.name == ours.case)
    ratio = value(peer, figure) / value(ours, figure)
    return 1 / ratio if more_is_better and figure != "peak_gib" else ratio


def cells(row: Row, first: Row) -> tuple[str, ...]:
    """Return a line of the table; `first` is the project's row of the same case."""
    if row.failed:
        return (row.case, row.candidate, "not measured", *[""] * (len(HEAD) - 4), row.failed)
    figure = next(case.figure for case in CASES if case.name == row.case)
    turns = row.figures[figure]
    others = (name for name in row.figures if name not in (figure, "peak_gib"))
    compared = row is not first and not first.failed
    return (
        row.case,
        row.candidate,
        f"{median(turns):.4g} {UNITS[figure]}",
        f"{min(turns):.4g} to {max(turns):.4g}",
        f"{gain(first, row, figure):.2f}x" if compared else "",
        f"{value(row, 'peak_gib'):.2f}",
        f"{gain(first, row, 'peak_gib'):.2f}x" if compared else "",
        ", ".join(f"{name} {value(row, name):.4g}" for name in others),
        row.note,
    )


def first_of(rows: Iterable[Row], case: str) -> Row:
    """Return the project's row of a case."""
    return next(row for row in rows if row.case == case)


def markdown(rows: Sequence[Row]) -> str:
    """Return what was compared as a table."""
    compared = [row for row in rows if row.part != "ceiling"]
    lines = [HEAD, ["---"] * len(HEAD), *(cells(row, first_of(rows, row.case)) for row in compared)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def ceilings(rows: Sequence[Row]) -> str:
    """Return what the machine could do, a line a figure."""
    found = [row for row in rows if row.part == "ceiling" and not row.failed]
    return "\n".join(f"{name:32s}{value(row, name):10.4g}" for row in found for name in row.figures)


def judged(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return each target that was measured, with what was found and whether it is reached."""
    found = {(row.case, row.candidate): row for row in rows if not row.failed}
    judgments = []
    for target in TARGETS:
        ours = next((row for (case, name), row in found.items() if case == target.case and target.ours in (None, name)), None)
        peer = found.get((target.case, target.peer)) if target.peer else ours
        if ours and peer and target.figure in ours.figures:
            judgments.append(judgment(target, ours, peer))
    return judgments + same_networks(found.values())


def same_networks(rows: Collection[Row]) -> list[dict[str, Any]]:
    """Return, of each training, whether all candidates' networks have the same number of parameters."""
    judgments = []
    for case in dict.fromkeys(row.case for row in rows if "parameters" in row.figures):
        numbers = sorted({value(row, "parameters") for row in rows if row.case == case})
        met = len(numbers) == 1
        judgments.append({"case": case, "figure": "parameters", "target": "the same", "reached": numbers, "met": met})
    return judgments


def judgment(target: Target, ours: Row, peer: Row) -> dict[str, Any]:
    """Return whether one target is reached."""
    reached = gain(ours, peer, target.figure) if target.peer else value(ours, target.figure)
    wanted = f"{target.least:g} times better than {target.peer}" if target.peer else f"below {target.least:g}"
    met = reached >= target.least if target.peer else reached < target.least
    case = f"{target.case}, {ours.candidate}" if target.ours else target.case
    return {"case": case, "figure": target.figure, "target": wanted, "reached": round(reached, 3), "met": met}
