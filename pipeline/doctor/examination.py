"""Command `doctor`: check a whole data set and report its issues, with severity and advice.

The data set is not changed. Scans are read one at a time, so that memory does not grow with their number.
"""

import os
import textwrap
from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from strokelesion.pipeline.cohorts.layouts import survey_cohort
from strokelesion.pipeline.doctor.checks import (
    CHECKS,
    COHORT_CHECKS,
    FILE_CHECKS,
    FOLDER_CHECKS,
    HOW_BAD,
    SCAN_CHECKS,
    STOPS,
    Check,
    Subject,
)
from strokelesion.pipeline.doctor.scan import Sighting, Training, open_scan, sight
from strokelesion.pipeline.runtime.errors import NAMED_AT_MOST
from strokelesion.pipeline.runtime.files import write_table
from strokelesion.transforms import Recipe

COLUMNS = ["file", "what is wrong", "how bad", "what to do", "check"]
# Characters of each column on the screen.
WIDTHS = {"file": 44, "what is wrong": 52, "how bad": 14, "what to do": 44}


def examine(
    dataset_dir: str | Path, transform: Recipe, table: str | Path, allow_empty: bool = False, allow_gray: bool = False
) -> None:
    """Run all `CHECKS` on a data set, write the issues to a table and print them.

    Args:
        dataset_dir: Folder in a layout of `read_cohort`, also one that `read_cohort` refuses.
        transform: Training transform, from a record to slices.
        table: CSV file for the issues: `file` (below the folder), `what is wrong`, `how bad`, `what to do`, `check`.
        allow_empty: Whether training accepts masks without lesion.
        allow_gray: Whether training accepts masks with more than two values.

    Raises:
        CohortError: The folder is missing or its layout is unknown.
        SystemExit: An issue stops training (status 1).
    """
    findings = diagnose(dataset_dir, Training(transform, allow_empty, allow_gray))
    write_table(Path(table), findings)
    print(as_text(findings) if len(findings) else "Nothing found.")
    counts = ", ".join(f"{(findings['how bad'] == how_bad).sum()} {how_bad}" for how_bad in HOW_BAD)
    print(f"{len(findings)} findings in {dataset_dir}: {counts}. All are in {table}.")
    if (findings["how bad"] == STOPS).any():
        raise SystemExit(1)


def diagnose(dataset_dir: str | Path, training: Training) -> pd.DataFrame:
    """Return a table of all issues of a data set, one row each, the most severe first."""
    survey = survey_cohort(dataset_dir)
    rows = list(look(FOLDER_CHECKS, survey))
    sightings: list[Sighting] = []
    for number, item in enumerate(tqdm([*survey.records, *survey.loose], desc="doctor", unit="scan")):
        scan = open_scan(item, training)
        found = list(look(FILE_CHECKS, scan))
        if number < len(survey.records) and all(row["how bad"] != STOPS for row in found):
            found += look(SCAN_CHECKS, scan)
            sightings.append(sight(scan, survey.records[number]))
        rows += found
    rows += look(COHORT_CHECKS, sightings)
    findings = pd.DataFrame(rows, columns=COLUMNS)
    findings["file"] = [os.path.relpath(file, survey.root) for file in findings["file"]]
    return findings.sort_values(["how bad", "check", "file"], key=_rank, kind="stable", ignore_index=True)


def look(checks: Iterable[Check[Subject]], subject: Subject) -> Iterator[dict[str, str]]:
    """Yield the issues that some checks find, as table rows."""
    for check in checks:
        for complaint in check.look(subject):
            yield dict(
                zip(COLUMNS, (complaint.file, complaint.what, check.how_bad, complaint.advice, check.finds), strict=True)
            )


def as_text(findings: pd.DataFrame) -> str:
    """Return issues as a text table, with at most `NAMED_AT_MOST` per check."""
    lines = [_wrapped({column: column.upper() for column in WIDTHS})]
    for check, found in findings.groupby("check", sort=False):
        lines += [_wrapped(row) for row in found.head(NAMED_AT_MOST).to_dict("records")]
        if len(found) > NAMED_AT_MOST:
            lines.append(f"… and {len(found) - NAMED_AT_MOST} more: {check}")
    return "\n".join(lines)


def _wrapped(row: Mapping[Hashable, str]) -> str:
    cells = [textwrap.wrap(row[column], width) for column, width in WIDTHS.items()]
    lines = zip_longest(*cells, fillvalue="")
    return "\n".join("  ".join(map(str.ljust, line, WIDTHS.values())).rstrip() for line in lines)


def _rank(column: pd.Series) -> pd.Series:
    """Return sort keys of a column: order in `HOW_BAD` for the severity, order in `CHECKS` for the check, else the values."""
    order = {"how bad": HOW_BAD, "check": [check.finds for check in CHECKS]}.get(str(column.name))
    return column if order is None else column.map({value: rank for rank, value in enumerate(order)})
