"""Metadata tables of data sets (CSV, TSV, XLSX): one row per scan or subject, looked up by their names.

Spreadsheets write tables in several encodings and with several separators, and people spell names and columns in several ways.
"""

import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from strokelesion.networks import UserError

Row = dict[str, str | float | int]
# Columns with the site, the first one that a row has; columns with a subject whose name may be spelled in other ways.
SITE_COLUMNS = ("site", "site_id", "siteid", "site_name", "center", "center_id", "centre", "centre_id", "study_site")
_SUBJECT = re.compile(r"(?:(?:participant|subject|sub|patient|bids)[ _-]*)?(?:id|name|number)|participant|subject|sub|patient")


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
    try:
        table = pd.read_excel(path) if path.endswith(".xlsx") else _read_text_table(Path(path).read_bytes())
    except Exception as error:
        raise UserError(f"{type(error).__name__}: {error}") from None
    table.columns = [str(column).strip() for column in table.columns]
    # Empty cells turn whole numbers into floats, and subject 31768 into "31768.0"; convert_dtypes() undoes that.
    cells = table.convert_dtypes().to_dict("records")
    rows = [{str(column): _plain(cell) for column, cell in row.items() if pd.notna(cell)} for row in cells]
    naming = [column for column in table.columns if _is_naming(column)]
    return Table(path, rows, sum(_is_padded(cell) for cell in table[naming].to_numpy().flat))


def _read_text_table(content: bytes) -> pd.DataFrame:
    """Return a table from text: UTF-8, UTF-16 or Latin-1, separated by tabs, semicolons or commas as its header is."""
    text = _decode(content)
    header = text.lstrip().partition("\n")[0]
    separator = "\t" if "\t" in header else max(",;", key=header.count)
    return pd.read_csv(io.StringIO(text), sep=separator)


def _decode(content: bytes) -> str:
    if b"\0" in content[:100]:
        has_mark = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        return content.decode("utf-16" if has_mark else "utf-16-be" if content[0] == 0 else "utf-16-le")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # What is not UTF-8 comes from older spreadsheets. Names of subjects and columns are plain ASCII in any case.
        return content.decode("latin-1")


def rows_by_scan(tables: Iterable[Table], spelled: Mapping[str, str]) -> dict[str, Row]:
    """Return metadata rows by the scans that they name; if two rows name the same scan, the last one counts.

    Args:
        tables: Tables of one layout.
        spelled: Names of its scans by their spellings, see `spellings`.
    """
    return {name: row for table in tables for row in table.rows for name in scans_of(row, spelled)}


def spellings(names: Iterable[str]) -> dict[str, str]:
    """Return names by their spellings: each by itself, and by its simple form (`simplify`) if no other has the same."""
    simple: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        simple[simplify(name)].add(name)
    alone = {f"~{spelling}": next(iter(of_it)) for spelling, of_it in simple.items() if len(of_it) == 1}
    return alone | {name: name for of_it in simple.values() for name in of_it}


def simplify(name: str) -> str:
    """Return the simple form of a name: "sub-01", "SUB_01", "sub01", "01" and "1" all give "1"."""
    return re.sub(r"^sub(?:[-_ ]|(?=\d))|[\W_]+", "", name.strip().lower()).lstrip("0")


def scans_of(row: Row, spelled: Mapping[str, str]) -> set[str]:
    """Return the scans that a row names, exactly or, in a column of subjects, in another spelling."""
    exact = {spelled[name] for name in scan_names(row) if name in spelled}
    simple = (f"~{simplify(str(cell))}" for column, cell in row.items() if _SUBJECT.fullmatch(column.lower()))
    return exact or {spelled[name] for name in simple if name in spelled}


def site_of(row: Row) -> str:
    """Return the site that a row names, "" if none."""
    columns = {column.lower().replace(" ", "_"): str(cell) for column, cell in row.items()}
    return next((columns[name] for name in SITE_COLUMNS if columns.get(name)), "")


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
