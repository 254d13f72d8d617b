"""Scans that exist to measure models: nobody may train on those of the second generator of synthetic scans."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from strokelesion.networks import UserError

# Table of synthetic scans, beside their release folder, and the generator in its column `generator` that is for validation.
SCANS_TABLE = "synthetic_scans.csv"
VALIDATION_GENERATOR = "shifted"
# Folders above the T1 of a scan: session, subject, site, release, and the folder of the table.
LEVELS = 5


def refuse_validation_scans(records: Sequence[Mapping[str, object]]) -> None:
    """Raise UserError if a training scan was made by the generator that is for validation only.

    Args:
        records: Scans of the training side, with `image` and `subject`.
    """
    by_table: defaultdict[Path, set[str]] = defaultdict(set)
    for record in records:
        for folder in Path(str(record["image"])).parents[:LEVELS]:
            by_table[folder / SCANS_TABLE].add(str(record["subject"]))
    for table, subjects in by_table.items():
        found = sorted(subjects & validation_subjects(table))
        if found:
            raise UserError(
                f"{table} says that the scan {found[0]} was made by the generator {VALIDATION_GENERATOR!r}, and so were "
                f"{len(found)} training scans; expected none, because these scans measure what training has not seen. Train "
                "on other scans, and name these to `evaluate`."
            )


def validation_subjects(table: Path) -> set[str]:
    """Return the subjects in a table of synthetic scans that are for validation only; none without a table."""
    if not table.is_file():
        return set()
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    return set(rows.loc[rows["generator"] == VALIDATION_GENERATOR, "subject"]) if "generator" in rows else set()
