"""Read a folder of scans as records: one record for each T1w scan with its lesion masks.

`layouts` has the file names of all releases. No image is opened.
"""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.layouts import LAYOUTS, Layout, identify_file
from strokelesion.pipeline.cohorts.metadata import Row, Table, read_table, rows_by_scan
from strokelesion.pipeline.cohorts.records import Record, find_unlinked, link_persons
from strokelesion.pipeline.runtime.errors import Fault, format_issue, refuse

logger = logging.getLogger(__name__)


class CohortError(UserError):
    """Error of a folder that is no single cohort; the message lists the files and says what to do."""


class _Key(NamedTuple):
    release: str
    subject: str
    session: str
    space: str


@dataclass
class _Scan:
    """Files of one scan, collected one by one."""

    layout: Layout
    site: str
    t1: list[str] = field(default_factory=list)
    main: list[str] = field(default_factory=list)
    sub: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return len(self.t1) == len(self.main) == 1

    def files_as_items(self) -> list[dict[str, str]]:
        """Return each file as an item of its own."""
        return [{"image": path} for path in self.t1] + [{"main_mask": path} for path in self.main + self.sub]


_Scans = Mapping[_Key, _Scan]


@dataclass(frozen=True)
class Survey:
    """Content of a folder, also if it is not a valid cohort.

    Attributes:
        root: The folder.
        records: Records of the scans that have all their files, sorted, with persons linked.
        loose: Files of all other scans; each item has only an `image` or only a `main_mask`.
        names: Names of all scans, by layout: subject and session ("031768t01"), and the subject alone.
        tables: Metadata tables, by layout.
        hidden: Skipped files and folders, whose names begin with a dot.
        faults: Reasons why the folder is not a valid cohort; empty for a valid one.
    """

    root: Path
    records: list[Record]
    loose: list[dict[str, str]]
    names: dict[str, set[str]]
    tables: dict[str, list[Table]]
    hidden: list[str]
    faults: list[Fault]


def read_cohort(folder: str | Path) -> list[Record]:
    """Return the records of all labeled scans below a folder; the folder tree shows which layout it has.

    Recipe:
        1. Walk the tree once and skip hidden files; the first matching row of `LAYOUTS` identifies a file.
        2. Group T1w scans and masks by release, subject and session; a mask with a number is a sub-mask.
        3. Drop R2.0's Testing scans (published without masks). If R1.2 is there in standard and in native space, drop its
           native scans, because a cohort has one space. Both are logged.
        4. Add the metadata row and the site. The site comes from the folder; for R3.0 and BIDS, a site in the table wins.
        5. Link the records of one person (`link_persons`). Refuse releases that no table links: a person could be on both
           sides of a split.

    R2.1 and R3.0 have the same file names: a path with `ATLAS_2.1` or `R2.1` means "R2.1", any other path "R3.0".
    Several BIDS data sets below one folder are read as one: their subjects must have different names.

    Args:
        folder: Folder of a release or the one above it, a BIDS data set, or R2.0's Training folder.

    Returns:
        Records sorted by release, subject and session. `session` is "" if BIDS has none.

    Raises:
        CohortError: The folder is missing or has no known files, files of a scan are missing or ambiguous, a table cannot be
            read, or a person may be in two releases without a link. One message lists all faults.
    """
    survey = survey_cohort(folder)
    refuse([format_issue(fault.what, fault.files, fault.advice) for fault in survey.faults], CohortError)
    return survey.records


def survey_cohort(folder: str | Path) -> Survey:
    """Return the content of a folder, read as in `read_cohort`, with the faults that `read_cohort` refuses.

    Raises:
        CohortError: The folder is missing or has no known files.
    """
    root = Path(os.path.abspath(folder))
    if not root.is_dir():
        raise CohortError(f"{root} is not a folder. Expected the folder of an ATLAS release or of a BIDS data set.")
    files, hidden = _list_files(root)
    found, tables, unreadable = _sort_files(files, root.parent)
    names: defaultdict[str, set[str]] = defaultdict(set)
    for key, scan in found.items():
        names[scan.layout.release] |= {key.subject + key.session, key.subject}
    scans = sorted(_without_native(_without_testing(found)).items())
    if not scans:
        raise CohortError(_describe_unknown(root, files))
    rows = {layout: rows_by_scan(row for table in of_layout for row in table.rows) for layout, of_layout in tables.items()}
    records = link_persons([_make_record(key, scan, rows) for key, scan in scans if scan.is_complete])
    loose = [item for _, scan in scans if not scan.is_complete for item in scan.files_as_items()]
    faults = [*_find_incomplete([scan for _, scan in scans]), *unreadable, _find_doubtful_persons(records)]
    return Survey(root, records, loose, names, tables, hidden, [fault for fault in faults if fault.files])


def _list_files(root: Path) -> tuple[list[str], list[str]]:
    """Return all files, and the hidden files and folders, which are skipped."""
    files: list[str] = []
    hidden: list[str] = []
    for folder, folders, names in os.walk(root, followlinks=True):
        hidden += (os.path.join(folder, name) for name in sorted(folders + names) if name.startswith("."))
        # In place: os.walk enters only the folders that remain in this list.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += (os.path.join(folder, name) for name in sorted(names) if not name.startswith("."))
    return files, hidden


def _sort_files(files: Iterable[str], parent: Path) -> tuple[_Scans, dict[str, list[Table]], list[Fault]]:
    """Return the files of each scan, the tables of each layout, and the faults of unreadable tables."""
    scans: dict[_Key, _Scan] = {}
    tables: defaultdict[str, list[Table]] = defaultdict(list)
    faults = []
    for path in files:
        if (identity := identify_file(Path(path).relative_to(parent).as_posix())) is None:
            continue
        layout, kind, names = identity
        if kind == "table":
            try:
                tables[layout.release].append(read_table(path))
            except UserError as error:
                faults.append(_describe_unreadable(path, error))
            continue
        # R2.1 and R3.0 have the same file names.
        release = "R2.1" if layout.release == "R3.0" and re.search(r"(?:ATLAS_|R)2[._]1(?!\d)", path) else layout.release
        key = _Key(release, names["subject"], names["session"], names.get("space", ""))
        scan = scans.setdefault(key, _Scan(layout, names.get("site", "unknown")))
        (scan.t1 if kind == "t1" else scan.sub if names.get("number") else scan.main).append(path)
    return scans, tables, faults


def _without_testing(scans: _Scans) -> _Scans:
    # Testing/R001/sub-r001s001/ses-1/anat: only the folder directly above the site counts.
    testing = {
        key
        for key, scan in scans.items()
        if key.release == "R2.0" and not scan.main and Path(scan.t1[0]).parents[4].name == "Testing"
    }
    if testing:
        logger.info("Skipped %d scans of R2.0's Testing folder: they were published without masks.", len(testing))
    return {key: scan for key, scan in scans.items() if key not in testing}


def _without_native(scans: _Scans) -> _Scans:
    has_standard = any(key.release == "R1.2" and key.space for key in scans)
    native = {key for key in scans if has_standard and key.release == "R1.2" and not key.space}
    if native:
        logger.info("R1.2 lies here in standard space and natively: read standard space, skipped %d scans.", len(native))
    return {key: scan for key, scan in scans.items() if key not in native}


def _find_incomplete(scans: Sequence[_Scan]) -> list[Fault]:
    """Return the faults of scans without exactly one T1w scan and exactly one main mask."""
    return [
        Fault(
            "T1w scans without a main lesion mask",
            "T1w scan without a main lesion mask",
            [path for scan in scans if not scan.main for path in scan.t1],
            "Expected one main mask for each scan, named as its release does. Add the masks or move the scans away.",
        ),
        Fault(
            "lesion masks without a T1w scan",
            "lesion mask without a T1w scan",
            [path for scan in scans if not scan.t1 for path in scan.main + scan.sub],
            "Expected a T1w scan of the same subject and session. Add the scans or move the masks away.",
        ),
        Fault(
            "T1w scans or main masks share their session with another",
            "shares its session with another T1w scan or main mask",
            [path for scan in scans for group in (scan.t1, scan.main) if len(group) > 1 for path in group],
            "Expected one T1w scan and one mask for each subject and session. Keep the lesion mask and the scan it was "
            "drawn on, move the others away.",
        ),
    ]


def _make_record(key: _Key, scan: _Scan, metadata: Mapping[str, Mapping[str, Row]]) -> Record:
    rows = metadata.get(scan.layout.release, {})
    row = rows.get(key.subject + key.session) or rows.get(key.subject) or {}
    record = Record(
        image=scan.t1[0],
        main_mask=scan.main[0],
        subject=key.subject,
        person=key.subject,
        session=key.session,
        site=str(row.get(scan.layout.site_column, scan.site)),
        release=key.release,
    )
    if scan.sub:
        record["sub_masks"] = scan.sub
    if row:
        record["metadata"] = row
    return record


def _find_doubtful_persons(records: Sequence[Record]) -> Fault:
    return Fault(
        "scans of persons who may be in two releases",
        "scan of a person who may be in two releases",
        sorted(record["image"] for record in find_unlinked(records)),
        "Expected releases whose persons can be distinguished: R1.1 and R1.2 hold the same persons, later releases most of "
        "them again, and only R2.0's metadata table says who is who. Point --dataset_dir at one release, or put that "
        "table into R2.0's folder and read R2.0 with one of R1.1 and R1.2.",
    )


def _describe_unreadable(path: str, error: UserError) -> Fault:
    advice = "Expected a CSV, TSV or XLSX table with a header. Copy or download it again, or move it away."
    return Fault(f"metadata table cannot be read ({error})", f"cannot be read as a table ({error})", [path], advice)


def _describe_unknown(root: Path, files: Sequence[str]) -> str:
    lines = [
        f"No labeled T1w scan found in {root}. Layouts looked for, with an example of each:",
        *(f"{layout.release}: {layout.example}" for layout in LAYOUTS),
        f"Found instead ({len(files)} files):",
        *(os.path.relpath(path, root) for path in files[:10]),
    ]
    return "\n  ".join(lines) + "\nPoint --dataset_dir at the folder of one release, or rename the files accordingly."
