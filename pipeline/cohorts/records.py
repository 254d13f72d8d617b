"""One scan as a record, and who is who: the records of one person bear one name.

A person may have several sessions, and most persons of ATLAS R1.x came again in later releases under other names. Whatever
must not mix persons, as a split, goes by `person`.
"""

import logging
import re
from collections.abc import Sequence
from typing import NotRequired, TypedDict

from strokelesion.pipeline.cohorts.metadata import Row, identifier

logger = logging.getLogger(__name__)

# What names a scan in every table, and the order that tables are in.
NAMES = ["release", "site", "person", "subject", "session"]
# R2.0's table is the only one that says who of the first releases is who in the later ones.
LINK_COLUMNS = ("ATLAS 1.2 Subject ID", "INDI Subject ID")


class Record(TypedDict):
    """One scan, usable as a MONAI data item. Paths are absolute; symbolic links are left as they are."""

    image: str
    main_mask: str
    sub_masks: NotRequired[list[str]]
    subject: str
    person: str
    session: str
    site: str
    release: str
    metadata: NotRequired[Row]


def link_persons(records: Sequence[Record]) -> list[Record]:
    """Give all records of one person the same `person`.

    Recipe:
        1. The names of a scan are its subject and those in the `LINK_COLUMNS` of its metadata, without their sessions.
        2. Scans that share a name are of one person, and so are scans that a chain of shared names connects.
        3. The person is called by the smallest of all these names, also when it is in the table only: R2.0 calls its
           persons alike whether R1.x lies beside it or not.

    Returns:
        New records in the order they came. That subjects were linked is logged.
    """
    names_of: dict[str, set[str]] = {}
    for record in records:
        names = _names(record)
        names = names.union(*(names_of[name] for name in names & names_of.keys()))
        names_of |= dict.fromkeys(names, names)
    linked: list[Record] = [{**record, "person": min(names_of[record["subject"]])} for record in records]
    subjects, persons = ({record[key] for record in linked} for key in ("subject", "person"))
    if len(persons) < len(subjects):
        logger.info("%d subjects are %d persons: tables link the others.", len(subjects), len(persons))
    return linked


def untold(records: Sequence[Record]) -> list[Record]:
    """Return the records whose persons may be in two releases without any table to say who is who.

    These are R1.1 beside R1.2, which hold the same persons and have no names in common, and either of them beside scans
    of later releases that have no row in R2.0's table, or beside a table that names nobody of the first releases.
    """
    first = [record for record in records if record["release"] in ("R1.1", "R1.2")]
    later = [record for record in records if record["release"] in ("R2.0", "R2.1", "R3.0")]
    is_linking = any(column in record.get("metadata", {}) for record in later for column in LINK_COLUMNS)
    unlinked = [r for r in later if not is_linking or r["release"] != "R2.0" or "metadata" not in r]
    both_first = len({record["release"] for record in first}) == 2
    return first + unlinked if both_first or (first and unlinked) else []


def _names(record: Record) -> set[str]:
    row = record.get("metadata", {})
    linked = (identifier(row[column]) for column in LINK_COLUMNS if column in row)
    return {record["subject"], *(re.sub(r"t\d\d$", "", name) for name in linked)}
