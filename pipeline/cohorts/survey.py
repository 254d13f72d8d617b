"""Read a folder of scans as records: one record for each T1w scan with its lesion masks.

`layouts` has the file names of all releases. No image is opened.
"""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.layouts import LAYOUTS
from strokelesion.pipeline.cohorts.metadata import Row, Table, rows_by_scan, site_of, spellings
from strokelesion.pipeline.cohorts.records import Record, find_unlinked, find_without_row, link_persons
from strokelesion.pipeline.cohorts.scan_files import (
    ScanFiles,
    ScanKey,
    Scans,
    list_files,
    sort_files,
    without_native,
    without_testing,
)
from strokelesion.pipeline.runtime.errors import Fault, format_issue, refuse

logger = logging.getLogger(__name__)
WITHOUT_SITES = (
    "All scans count as of one site: --split cannot spread sites evenly or leave one out. Add a column site if there are more."
)
WITHOUT_ROW = "Add a row for each; a site that only the table names counts as unknown."


class CohortError(UserError):
    """Error of a folder that is no single cohort; the message lists the files and says what to do."""


@dataclass(frozen=True)
class Survey:
    """Content of a folder, also if it is not a valid cohort.

    Attributes:
        root: The folder.
        records: Records of the scans that have all their files, sorted, with persons linked.
        loose: Files of all other scans; each item has only an `image` or only a `main_mask`.
        names: Names of all scans in all spellings, by layout, see `spellings`. A scan is named by subject and session
            ("031768t01"), or by the subject alone.
        tables: Metadata tables, by layout.
        left_out: Masks beside the lesion mask of a scan whose names do not say that they show the lesion on T1.
        hidden: Skipped files and folders, whose names begin with a dot.
        faults: Reasons why the folder is not a valid cohort; empty for a valid one.
    """

    root: Path
    records: list[Record]
    loose: list[dict[str, str]]
    names: dict[str, dict[str, str]]
    tables: dict[str, list[Table]]
    left_out: list[str]
    hidden: list[str]
    faults: list[Fault]


def read_cohort(folder: str | Path) -> list[Record]:
    """Return the records of all labeled scans below a folder; the folder tree shows which layout it has.

    Recipe:
        1. Walk the tree once, also through links, and skip hidden files; the first matching row of `LAYOUTS` identifies a file.
        2. Group T1w scans and masks by release, subject and session; a mask with a number is a sub-mask. BIDS masks of brain,
           face or tissue, and masks of other images, are left out; see `names_lesion` and `drawn_elsewhere`.
        3. Drop R2.0's Testing scans (published without masks). If R1.2 is there in standard and in native space, drop its
           native scans, because a cohort has one space. Both are logged.
        4. Add the metadata row and the site. The site comes from the folder; for R3.0 and BIDS, a site in the table wins.
        5. Link the records of one person (`link_persons`). Refuse releases that no table links: a person could be on both
           sides of a split.

    R2.1 and R3.0 have the same file names: a path with `ATLAS_2.1` or `R2.1` means "R2.1", any other path "R3.0".
    Several BIDS data sets below one folder are read as one: their subjects must have different names.
    Left-out masks, scans without a row and tables without sites are logged.

    Args:
        folder: Folder of a release or the one above it, a BIDS data set, or R2.0's Training folder.

    Returns:
        Records sorted by release, subject and session. `session` is "" if BIDS has none.

    Raises:
        CohortError: The folder is missing or has no known files, files of a scan are missing or ambiguous, a table cannot be
            read or names no scan, or a person may be in two releases without a link. One message lists all faults.
    """
    survey = survey_cohort(folder)
    refuse([format_issue(fault.what, fault.files, fault.advice) for fault in survey.faults], CohortError)
    if survey.left_out:
        words = "Left out %d masks whose names do not say that they show the lesion on T1, such as %s."
        logger.info(words, len(survey.left_out), survey.left_out[0])
    for warning in (
        format_issue("tables without a column of sites", find_without_sites(survey), WITHOUT_SITES),
        format_issue("scans without a row in the table", find_without_row(survey.records), WITHOUT_ROW),
    ):
        if warning:
            logger.warning(warning)
    return survey.records


def survey_cohort(folder: str | Path) -> Survey:
    """Return the content of a folder, read as in `read_cohort`, with the faults that `read_cohort` refuses.

    Raises:
        CohortError: The folder is missing or has no known files.
    """
    root = Path(os.path.abspath(folder))
    if not root.is_dir():
        raise CohortError(f"{root} is not a folder. Expected the folder of an ATLAS release or of a BIDS data set.")
    files, hidden = list_files(root)
    found, tables, unreadable = sort_files(files, root.parent)
    scans = sorted(without_native(without_testing(found)).items())
    if not scans:
        raise CohortError(_explain_unknown(root, files))
    names = {release: spellings(of_release) for release, of_release in _names_by_layout(found).items()}
    rows = {layout: rows_by_scan(of_layout, names.get(layout, {})) for layout, of_layout in tables.items()}
    records = link_persons([_make_record(key, scan, rows) for key, scan in scans if scan.is_complete])
    loose = [item for _, scan in scans if not scan.is_complete for item in scan.files_as_items()]
    left_out = sorted(path for _, scan in scans if scan.main for path in scan.other)
    faults = [*_find_incomplete([scan for _, scan in scans]), *unreadable, _find_strange_tables(tables, names, rows)]
    faults = [fault for fault in (*faults, _find_doubtful_persons(records)) if fault.files]
    return Survey(root, records, loose, names, tables, left_out, hidden, faults)


def find_without_sites(survey: Survey) -> list[str]:
    """Return the tables without any site, although nothing else in their layout names a site."""
    layouts = [layout.release for layout in LAYOUTS if "site" not in re.compile(layout.t1).groupindex]
    tables = [table for layout in layouts for table in survey.tables.get(layout, [])]
    return [table.path for table in tables if not any(map(site_of, table.rows))]


def _names_by_layout(scans: Scans) -> dict[str, set[str]]:
    names: defaultdict[str, set[str]] = defaultdict(set)
    for key, scan in scans.items():
        names[scan.layout.release] |= {key.subject + key.session, key.subject}
    return names


def _find_incomplete(scans: Sequence[ScanFiles]) -> list[Fault]:
    """Return the faults of scans without exactly one T1w scan and exactly one main mask."""
    return [
        Fault(
            "T1w scans without a main lesion mask",
            "T1w scan without a main lesion mask",
            [path for scan in scans if not scan.main for path in scan.t1],
            "Expected one main mask for each scan, named as its release does, in BIDS for example "
            "sub-01_label-lesion_mask.nii.gz. Add the masks or move the scans away. For a person without lesion, add an empty "
            "mask and give --allow_empty true.",
        ),
        Fault(
            "masks that are the only ones of their scan and do not say that they show the lesion",
            "is the only mask of its scan, and its name does not say that it shows the lesion",
            [path for scan in scans if scan.t1 and not scan.main for path in scan.other],
            "Expected label-lesion, label-L, lesion or infarct in the name of a lesion mask. If this is one, rename it; masks "
            "of brain, face or tissue are never used.",
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
            "Expected one T1w scan and one lesion mask for each subject and session. Keep the mask and the scan it was drawn "
            "on, move the others away.",
        ),
    ]


def _make_record(key: ScanKey, scan: ScanFiles, metadata: Mapping[str, Mapping[str, Row]]) -> Record:
    rows = metadata.get(scan.layout.release, {})
    row = rows.get(key.subject + key.session) or rows.get(key.subject) or {}
    record = Record(
        image=scan.t1[0],
        main_mask=scan.main[0],
        subject=key.subject,
        person=key.subject,
        session=key.session,
        site=(scan.layout.has_sites and site_of(row)) or scan.site,
        release=key.release,
    )
    if scan.sub:
        record["sub_masks"] = scan.sub
    if row:
        record["metadata"] = row
    return record


def _find_strange_tables(
    tables: Mapping[str, Sequence[Table]], layouts: Collection[str], rows: Mapping[str, Mapping[str, Row]]
) -> Fault:
    """Return the fault of tables with rows of which none names a scan, if that is so for all tables of a layout with scans."""
    strange = [table for layout in layouts if not rows.get(layout) for table in tables.get(layout, []) if table.rows]
    columns = "; ".join(sorted({", ".join(map(str, list(row)[:5])) for table in strange for row in table.rows[:1]}))
    return Fault(
        "tables in which no row names a scan",
        "has no row that names a scan",
        [table.path for table in strange],
        f"Expected the name of each subject, such as sub-01, in a column participant_id; its first columns are {columns}. "
        "Correct the names, or move the table away: all scans then count as of one site.",
    )


def _find_doubtful_persons(records: Sequence[Record]) -> Fault:
    return Fault(
        "scans of persons who may be in two releases",
        "scan of a person who may be in two releases",
        sorted(record["image"] for record in find_unlinked(records)),
        "Expected releases whose persons can be distinguished: R1.1 and R1.2 hold the same persons, later releases most of "
        "them again, and only R2.0's metadata table says who is who. Point --dataset_dir at one release, or put that "
        "table into R2.0's folder and read R2.0 with one of R1.1 and R1.2.",
    )


def _explain_unknown(root: Path, files: Sequence[str]) -> str:
    lines = [
        f"No labeled T1w scan found in {root}. Layouts looked for, with an example of each:",
        *(f"{layout.release}: {layout.example}" for layout in LAYOUTS),
        f"Found instead ({len(files)} files):",
        *(os.path.relpath(path, root) for path in files[:10]),
    ]
    return "\n  ".join(lines) + "\nPoint --dataset_dir at the folder of one release, or rename the files accordingly."
