"""Rows as one table, and whether the bars are met."""

from collections.abc import Collection, Iterable, Sequence
from statistics import median
from typing import Any

from candidates.running import Row
from candidates.suite import BARS, CASES, Bar

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
    """Return, of each bar that was measured, what is wished for, what was found, and whether it is met."""
    found = {(row.case, row.candidate): row for row in rows if not row.failed}
    judgments = []
    for bar in BARS:
        ours = next((row for (case, name), row in found.items() if case == bar.case and bar.ours in (None, name)), None)
        peer = found.get((bar.case, bar.peer)) if bar.peer else ours
        if ours and peer and bar.figure in ours.figures:
            judgments.append(judgment(bar, ours, peer))
    return judgments + same_networks(found.values())


def same_networks(rows: Collection[Row]) -> list[dict[str, Any]]:
    """Return, of each training, whether all candidates' networks have the same number of parameters."""
    judgments = []
    for case in dict.fromkeys(row.case for row in rows if "parameters" in row.figures):
        numbers = sorted({value(row, "parameters") for row in rows if row.case == case})
        met = len(numbers) == 1
        judgments.append({"case": case, "figure": "parameters", "wished": "the same", "reached": numbers, "met": met})
    return judgments


def judgment(bar: Bar, ours: Row, peer: Row) -> dict[str, Any]:
    """Return whether one bar is met."""
    reached = gain(ours, peer, bar.figure) if bar.peer else value(ours, bar.figure)
    wished = f"{bar.least:g} times better than {bar.peer}" if bar.peer else f"below {bar.least:g}"
    met = reached >= bar.least if bar.peer else reached < bar.least
    case = f"{bar.case}, {ours.candidate}" if bar.ours else bar.case
    return {"case": case, "figure": bar.figure, "wished": wished, "reached": round(reached, 3), "met": met}
