"""Metadata tables of data sets (CSV, TSV, XLSX): one row per scan or subject, looked up by their names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from strokelesion.networks import UserError

Row = dict[str, str | float | int]


@dataclass(frozen=True)
class Table:
    """Content of a metadata table.

    Attributes:
        path: File of the table.
        rows: Rows in order, without empty cells.
        padded: Number of cells with scan names that had spaces around them; the spaces are removed.
    """

    path: str
    rows: list[Row]
    padded: int = 0


def read_table(path: str) -> Table:
    """Return a table from its file.

    Raises:
        UserError: The file cannot be read; the message gives the reason without the file name.
    """
    separator = "\t" if path.endswith(".tsv") else ","
    try:
        table = pd.read_excel(path) if path.endswith(".xlsx") else pd.read_csv(path, sep=separator)
    except Exception as error:
        raise UserError(f"{type(error).__name__}: {error}") from None
    # Empty cells turn whole numbers into floats, and subject 31768 into "31768.0"; convert_dtypes() undoes that.
    cells = table.convert_dtypes().to_dict("records")
    rows = [{str(column): _plain(cell) for column, cell in row.items() if pd.notna(cell)} for row in cells]
    naming = [column for column in table.columns if _is_naming(str(column))]
    return Table(path, rows, sum(_is_padded(cell) for cell in table[naming].to_numpy().flat))


def rows_by_scan(rows: Iterable[Row]) -> dict[str, Row]:
    """Return metadata rows by the names of their scans; if two rows have the same name, the last one counts."""
    return {name: row for row in rows for name in scan_names(row)}


def scan_names(row: Mapping[str, str | float | int]) -> list[str]:
    """Return the possible names of a row's scan: subject and session ("031768t01"), or the subject if there is no session."""
    session = str(row.get("Session", ""))
    names = (identifier(cell) for column, cell in row.items() if column.upper().endswith("ID"))
    return [name.removesuffix(session) + session for name in names]


def _is_naming(column: str) -> bool:
    return column == "Session" or column.upper().endswith("ID")


def _is_padded(cell: object) -> bool:
    return isinstance(cell, str) and cell != cell.strip()


def _plain(cell: object) -> str | float | int:
    return cell if isinstance(cell, int | float) else str(cell).strip()


def identifier(cell: str | float | int) -> str:
    """Return a cell as a name on disk: INDI's subjects get six digits; "sub-1_ses-1" becomes "sub-1ses-1"."""
    name = str(cell).replace("_", "")
    return name.zfill(6) if name.isdigit() else name
