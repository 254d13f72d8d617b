"""Records of scans, and the links between records of the same person.

A person may have several sessions, and most persons of ATLAS R1.x appear in later releases under other names. Code that must
keep persons together, such as a split, uses `person`.
"""

import logging
import re
from collections.abc import Sequence
from typing import NotRequired, TypedDict

from strokelesion.pipeline.cohorts.metadata import Row, identifier

logger = logging.getLogger(__name__)

# Columns that identify a scan in every table; tables are sorted by them.
NAMES = ["release", "site", "person", "subject", "session"]
# Only R2.0's table links persons of the first releases to persons of the later ones.
LINK_COLUMNS = ("ATLAS 1.2 Subject ID", "INDI Subject ID")
# INDI subject IDs of phantoms. R1.1 has 31768 to 31987, so nobody is taken for a patient.
PHANTOM_IDS = range(99001, 99221)


class Record(TypedDict):
    """Record of one scan, usable as a MONAI data item. Paths are absolute; symbolic links are not resolved.

    `classes` is a map of 1 main and 2 sub that divides a mask of all lesions, `main_mask`.
    """

    image: str
    main_mask: str
    sub_masks: NotRequired[list[str]]
    classes: NotRequired[str]
    subject: str
    person: str
    session: str
    site: str
    release: str
    metadata: NotRequired[Row]


def link_persons(records: Sequence[Record]) -> list[Record]:
    """Return the records with one `person` for all records of the same person.

    Recipe:
        1. The names of a scan are its subject and the names in the `LINK_COLUMNS` of its metadata, without sessions.
        2. Scans that share a name belong to one person, also through a chain of shared names.
        3. `person` is the smallest of all these names, even if it occurs only in the table: persons of R2.0 then have the
           same name with and without R1.x in the cohort.

    Returns:
        New records in the given order. Links between subjects are logged.
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


def is_phantom_subject(subject: str) -> bool:
    """Return whether a subject has the name of a phantom."""
    return subject.isdigit() and int(subject) in PHANTOM_IDS


def find_unlinked(records: Sequence[Record]) -> list[Record]:
    """Return the records of persons who may be in two releases that no table links.

    R1.1 and R1.2 contain the same persons under different names, so both together are such a case. The other case is one of
    them together with scans of later releases that have no row in R2.0's table, or whose tables name no person of R1.x.
    """
    first = [record for record in records if record["release"] in ("R1.1", "R1.2")]
    later = [record for record in records if record["release"] in ("R2.0", "R2.1", "R3.0")]
    is_linking = any(column in record.get("metadata", {}) for record in later for column in LINK_COLUMNS)
    unlinked = [r for r in later if not is_linking or r["release"] != "R2.0" or "metadata" not in r]
    both_first = len({record["release"] for record in first}) == 2
    return first + unlinked if both_first or (first and unlinked) else []


def find_without_row(records: Sequence[Record]) -> list[str]:
    """Return the images of the records without a row, if tables of their release have rows of other scans."""
    listed = {record["release"] for record in records if "metadata" in record}
    return [record["image"] for record in records if record["release"] in listed and "metadata" not in record]


def _names(record: Record) -> set[str]:
    row = record.get("metadata", {})
    linked = (identifier(row[column]) for column in LINK_COLUMNS if column in row)
    return {record["subject"], *(re.sub(r"t\d\d$", "", name) for name in linked)}
