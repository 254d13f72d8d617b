"""Keep what reviewers decided about each scan: `review.tsv`, one row for each scan that somebody has looked at.

A save names the version of the row that its page showed, see `Reviewed.version` in `saving.py`. An older version is refused, so
no page overwrites what another one has saved in the meantime.
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.table_columns import TABLES, write_with_dictionary

TABLE = "review"
PENDING, ACCEPTED, CORRECTED, REJECTED = STATUSES = ("pending", "accepted", "corrected", "rejected")
LOCK = ".review.lock"


@dataclass(frozen=True)
class Decision:
    """What a reviewer decided about the mask of one scan.

    Attributes:
        status: One of `STATUSES`.
        initials: Initials of the reviewer; "" if nobody has looked yet.
        date: Date and time in the form of ISO 8601.
        note: Note of the reviewer.
        mask_sha256: SHA-256 of the mask file that the decision is about.
    """

    status: str = PENDING
    initials: str = ""
    date: str = ""
    note: str = ""
    mask_sha256: str = ""


def read_decisions(folder: str | Path) -> dict[str, Decision]:
    """Return the decisions in `review.tsv` by the name of the scan; a scan without a row is pending.

    Raises:
        UserError: A column is missing, or a status is unknown.
    """
    path = Path(folder) / f"{TABLE}.tsv"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file, delimiter="\t")]
    found = {}
    for line, row in enumerate(rows, start=2):
        if missing := TABLES[TABLE].columns.keys() - {key for key, value in row.items() if value is not None}:
            raise UserError(f"{path} has no {', '.join(sorted(missing))} in line {line}; expected the columns of review.json.")
        if row["status"] not in STATUSES:
            raise UserError(f"{path} has the status {row['status']} in line {line}; allowed are {', '.join(STATUSES)}.")
        known = {key: "" if row[key] == "n/a" else row[key] for key in Decision.__dataclass_fields__}
        found[row["scan"]] = Decision(**known)
    return found


def write_decision(folder: str | Path, scan: str, decision: Decision) -> None:
    """Write the decision about one scan into `review.tsv`; the others stay. Hold `locked_for_saving` meanwhile."""
    decisions = {**read_decisions(folder), scan: decision}
    rows = [{"scan": name, **{key: value or None for key, value in asdict(one).items()}} for name, one in decisions.items()]
    write_with_dictionary(folder, TABLE, sorted(rows, key=lambda row: str(row["scan"])))


@contextmanager
def locked_for_saving(folder: str | Path) -> Iterator[None]:
    """Wait until no other process saves to this folder, and keep others waiting while the block runs.

    Without locks of the operating system or of the file system, the block runs all the same.
    """
    with (Path(folder) / LOCK).open("ab") as file:
        with suppress(ImportError, OSError):
            from fcntl import LOCK_EX, lockf  # Windows has no such module

            lockf(file, LOCK_EX)
        yield
