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

from strokelesion.pipeline.doctor import checks
from strokelesion.pipeline.doctor.checks import SEVERITIES, STOPS, Check, Subject
from strokelesion.pipeline.doctor.scan import Training, open_scan
from strokelesion.pipeline.review.reviewed_cohort import survey_labeled
from strokelesion.pipeline.runtime.errors import NAMED_AT_MOST
from strokelesion.pipeline.runtime.files import write_table
from strokelesion.transforms import Recipe

COLUMNS = ["file", "issue", "severity", "advice", "check"]
# Characters of each column on the screen.
WIDTHS = {"file": 44, "issue": 52, "severity": 14, "advice": 44}


def examine(
    dataset_dir: str | Path, transform: Recipe, table: str | Path, allow_empty: bool = False, allow_gray: bool = False
) -> None:
    """Run all `CHECKS` on a data set, write the issues to a table and print them.

    Args:
        dataset_dir: Folder in a layout of `read_cohort`, also one that `read_cohort` refuses, or reviewed results.
        transform: Training transform, from a record to slices.
        table: CSV file for the issues: `file` (below the folder), `issue`, `severity`, `advice`, `check`.
        allow_empty: Whether training accepts masks without lesion.
        allow_gray: Whether training accepts masks with more than two values.

    Raises:
        CohortError: The folder is missing or its layout is unknown.
        SystemExit: An issue stops training (status 1).
    """
    issues = diagnose(dataset_dir, Training(transform, allow_empty, allow_gray))
    write_table(Path(table), issues)
    print(format_issues(issues) if len(issues) else "No issues found.")
    counts = ", ".join(f"{(issues['severity'] == severity).sum()} {severity}" for severity in SEVERITIES)
    print(f"{len(issues)} issues in {dataset_dir}: {counts}. All are in {table}.")
    if (issues["severity"] == STOPS).any():
        raise SystemExit(1)


def diagnose(dataset_dir: str | Path, training: Training) -> pd.DataFrame:
    """Return a table of all issues of a data set, one row each, the most severe first."""
    survey = survey_labeled(dataset_dir)
    rows = list(run_checks(checks.FOLDER_CHECKS, survey))
    hashes: dict[str, str] = {}
    for number, item in enumerate(tqdm([*survey.records, *survey.loose], desc="doctor", unit="scan")):
        scan = open_scan(item, training)
        found = list(run_checks(checks.FILE_CHECKS, scan))
        if number < len(survey.records) and all(row["severity"] != STOPS for row in found):
            found += run_checks(checks.SCAN_CHECKS, scan)
            hashes[scan.item["image"]] = scan.hash_voxels()
        rows += found
    rows += run_checks(checks.COHORT_CHECKS, hashes)
    issues = pd.DataFrame(rows, columns=COLUMNS)
    issues["file"] = [os.path.relpath(file, survey.root) for file in issues["file"]]
    return issues.sort_values(["severity", "check", "file"], key=_rank, kind="stable", ignore_index=True)


def run_checks(chosen: Iterable[Check[Subject]], subject: Subject) -> Iterator[dict[str, str]]:
    """Yield the issues that some checks find, as table rows."""
    for check in chosen:
        for file, what, advice in check.find(subject):
            yield dict(zip(COLUMNS, (file, what, check.severity, advice, check.title), strict=True))


def format_issues(issues: pd.DataFrame) -> str:
    """Return issues as a text table, with at most `NAMED_AT_MOST` per check."""
    lines = [_wrap({column: column.upper() for column in WIDTHS})]
    for check, found in issues.groupby("check", sort=False):
        lines += [_wrap(row) for row in found.head(NAMED_AT_MOST).to_dict("records")]
        if len(found) > NAMED_AT_MOST:
            lines.append(f"… and {len(found) - NAMED_AT_MOST} more: {check}")
    return "\n".join(lines)


def _wrap(row: Mapping[Hashable, str]) -> str:
    cells = [textwrap.wrap(row[column], width) for column, width in WIDTHS.items()]
    lines = zip_longest(*cells, fillvalue="")
    return "\n".join("  ".join(map(str.ljust, line, WIDTHS.values())).rstrip() for line in lines)


def _rank(column: pd.Series) -> pd.Series:
    """Return sort keys of a column: order of `SEVERITIES` and `CHECKS` for severity and check, else the values."""
    order = {"severity": SEVERITIES, "check": [check.title for check in checks.CHECKS]}.get(str(column.name))
    return column if order is None else column.map({value: rank for rank, value in enumerate(order)})
