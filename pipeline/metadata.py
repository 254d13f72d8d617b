"""The tables beside the scans (CSV, TSV, XLSX): one row a scan or a subject, found by the names of both."""

from collections.abc import Iterable
from itertools import chain

import pandas as pd

Row = dict[str, str | float | int]


def rows_by_scan(tables: Iterable[str]) -> dict[str, Row]:
    """Metadata rows by subject and session ("031768t01"), or by subject alone where the table has no session."""
    index: dict[str, Row] = {}
    for row in chain.from_iterable(map(_rows, tables)):
        session = str(row.get("Session", ""))
        names = [identifier(cell) for column, cell in row.items() if column.upper().endswith("ID")]
        index |= {name.removesuffix(session) + session: row for name in names}
    return index


def _rows(path: str) -> list[Row]:
    separator = "\t" if path.endswith(".tsv") else ","
    table = pd.read_excel(path) if path.endswith(".xlsx") else pd.read_csv(path, sep=separator)
    # Gaps turn whole numbers into floats, and subject 31768 into "31768.0"; convert_dtypes() undoes that.
    return [
        {str(column): _plain(cell) for column, cell in row.items() if pd.notna(cell)}
        for row in table.convert_dtypes().to_dict("records")
    ]


def _plain(cell: object) -> str | float | int:
    return cell if isinstance(cell, int | float) else str(cell).strip()


def identifier(cell: str | float | int) -> str:
    """INDI's subjects are numbers in tables and have six digits on disk; "sub-1_ses-1" becomes "sub-1ses-1"."""
    name = str(cell).replace("_", "")
    return name.zfill(6) if name.isdigit() else name
