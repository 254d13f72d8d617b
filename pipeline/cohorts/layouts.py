"""Read a folder of scans as records: one record for each T1w scan with its lesion masks.

`LAYOUTS` has one row for each release, with the names of its T1w scans, its masks and its metadata table. The code below the
table is the same for all releases. No image is opened.

Sources: ATLAS R1.1/R1.2 (Liew et al. 2018, doi:10.1038/sdata.2018.11), R2.0 (Liew et al. 2022,
doi:10.1038/s41597-022-01401-7), BIDS 1.10 (https://bids-specification.readthedocs.io).
"""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.metadata import Row, Table, read_table, rows_by_scan
from strokelesion.pipeline.cohorts.records import Record, link_persons, untold
from strokelesion.pipeline.runtime.errors import Fault, finding, refuse

logger = logging.getLogger(__name__)


class CohortError(UserError):
    """Error of a folder that is no single cohort; the message lists the files and says what to do."""


@dataclass(frozen=True)
class Layout:
    """File names of one release, as regular expressions on the path below the parent of the cohort folder."""

    release: str
    example: str
    t1: str
    mask: str
    table: str
    site_column: str = ""


_IN = r"(?:.*/)?"
_END = r"\.nii(?:\.gz)?"
_R11 = rf"{_IN}(?P<site>Site\d+)/(?P<subject>\d{{6}})/(?P<session>t\d\d)/(?P=subject)"
_R12 = rf"{_IN}(?P<site>c\d{{4}})/(?P<subject>c\d{{4}}s\d{{4}})(?P<session>t\d\d)/(?P=subject)(?P=session)"
_R2 = rf"{_IN}(?P<site>[^/]+)/(?P<subject>sub-[^/_]+)/(?P<session>ses-[^/_]+)/anat/(?P=subject)_(?P=session)"
_BIDS = r"(?P<subject>sub-[^/_]+)(?:_(?P<session>ses-[^/_]+))?_"
_SMOOTH = r"_LesionSmooth(?P<number>_\d+)?"  # the main mask is the one without number

LAYOUTS = (
    Layout(
        release="R1.1",
        example="ATLAS_R1.1/Site1/031768/t01/031768_t1w_deface_stx.nii.gz",
        t1=rf"{_R11}_t1w_deface(?P<space>_stx){_END}",
        mask=rf"{_R11}{_SMOOTH}(?P<space>_stx){_END}",
        table=rf"{_IN}[^/]*ATLAS_Meta-Data_Release_1\.1_standard_mni\.csv",
    ),
    Layout(
        release="R1.2",
        example="c0003/c0003s0001t01/c0003s0001t01_t1w_stx.nii.gz",
        t1=rf"{_R12}_t1w(?:_deface)?(?P<space>_stx)?{_END}",
        mask=rf"{_R12}{_SMOOTH}(?P<space>_stx)?{_END}",
        table=rf"{_IN}[^/]*ATLAS_Meta-Data_Release_1\.1_Updated\.xlsx",
    ),
    Layout(
        release="R2.0",
        example="Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz",
        t1=rf"{_R2}_space-MNI152NLin2009aSym_T1w{_END}",
        mask=rf"{_R2}_space-MNI152NLin2009aSym_label-[LR]_desc-T1lesion_mask{_END}",
        table=rf"{_IN}[^/]*ATLAS_2\.0_MetaData\.(?:xlsx|csv)",
    ),
    Layout(
        release="R3.0",  # R2.1 has the same names: see `_release`
        example="R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-orig_desc-brain_T1w.nii.gz",
        t1=rf"{_R2}_space-orig_desc-brain_T1w{_END}",
        mask=rf"{_R2}_space-orig_label-lesion_desc-T1lesion_mask{_END}",
        table=rf"{_IN}sub-[^/]*_metadata\.csv",
        site_column="SITE",
    ),
    Layout(
        release="BIDS",
        example="sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        t1=rf"(?!(?:.*/)?derivatives/){_IN}anat/{_BIDS}(?:[^/]*_)?T1w{_END}",
        mask=rf"{_IN}{_BIDS}(?![^/]*desc-brain_)[^/]*mask{_END}",  # brain masks of preprocessing are no lesions
        table=rf"{_IN}participants\.tsv",
        site_column="site",
    ),
)
_PATTERNS = [(row, kind, re.compile(getattr(row, kind))) for row in LAYOUTS for kind in ("t1", "mask", "table")]


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

    def items(self) -> list[dict[str, str]]:
        """Return each file as an item of its own."""
        return [{"image": path} for path in self.t1] + [{"main_mask": path} for path in self.main + self.sub]


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
    refuse([finding(fault.what, fault.files, fault.advice) for fault in survey.faults], CohortError)
    return survey.records


def survey_cohort(folder: str | Path) -> Survey:
    """Return the content of a folder, read as in `read_cohort`, with the faults that `read_cohort` refuses.

    Raises:
        CohortError: The folder is missing or has no known files.
    """
    root = Path(os.path.abspath(folder))
    if not root.is_dir():
        raise CohortError(f"{root} is not a folder. Expected the folder of an ATLAS release or of a BIDS data set.")
    files, hidden = _walk(root)
    met, paths = _recognize(files, root.parent)
    scans = _without_native(_without_testing(met))
    if not scans:
        raise CohortError(_nothing_found(root, files))
    tables, unread = _read_tables(paths)
    rows = {layout: rows_by_scan(row for table in found for row in table.rows) for layout, found in tables.items()}
    records = link_persons([_record(key, scan, rows) for key, scan in sorted(scans.items()) if scan.is_complete])
    loose = [item for _, scan in sorted(scans.items()) if not scan.is_complete for item in scan.items()]
    faults = [*_incomplete(scans.values()), *unread, _may_be_in_two_releases(records)]
    return Survey(root, records, loose, _names(met), tables, hidden, [fault for fault in faults if fault.files])


def _walk(root: Path) -> tuple[list[str], list[str]]:
    """Return all files, and the hidden files and folders, which are skipped."""
    files: list[str] = []
    hidden: list[str] = []
    for folder, folders, names in os.walk(root, followlinks=True):
        hidden += (os.path.join(folder, name) for name in sorted(folders + names) if name.startswith("."))
        # In place: os.walk enters only the folders that remain in this list.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += (os.path.join(folder, name) for name in sorted(names) if not name.startswith("."))
    return files, hidden


def _recognize(files: Iterable[str], parent: Path) -> tuple[dict[_Key, _Scan], dict[str, list[str]]]:
    scans: dict[_Key, _Scan] = {}
    tables: defaultdict[str, list[str]] = defaultdict(list)
    for path in files:
        found = _match(Path(path).relative_to(parent).as_posix())
        if found is None:
            continue
        layout, kind, names = found
        if kind == "table":
            tables[layout.release].append(path)
            continue
        key = _Key(_release(layout, path), names["subject"], names["session"], names.get("space", ""))
        scan = scans.setdefault(key, _Scan(layout, names.get("site", "unknown")))
        mask = scan.sub if names.get("number") else scan.main
        (scan.t1 if kind == "t1" else mask).append(path)
    return scans, tables


def _read_tables(paths: dict[str, list[str]]) -> tuple[dict[str, list[Table]], list[Fault]]:
    tables: defaultdict[str, list[Table]] = defaultdict(list)
    faults = []
    for layout, path in ((layout, path) for layout, found in paths.items() for path in found):
        try:
            tables[layout].append(read_table(path))
        except UserError as error:
            advice = "Expected a CSV, TSV or XLSX table with a header. Copy or download it again, or move it away."
            faults.append(
                Fault(f"metadata table cannot be read ({error})", f"cannot be read as a table ({error})", [path], advice)
            )
    return tables, faults


def _names(scans: dict[_Key, _Scan]) -> dict[str, set[str]]:
    names: defaultdict[str, set[str]] = defaultdict(set)
    for key, scan in scans.items():
        names[scan.layout.release] |= {key.subject + key.session, key.subject}
    return names


def _match(path: str) -> tuple[Layout, str, dict[str, str]] | None:
    for layout, kind, pattern in _PATTERNS:
        if match := pattern.fullmatch(path):
            return layout, kind, match.groupdict(default="")
    return None


def _release(layout: Layout, path: str) -> str:
    is_r21 = layout.release == "R3.0" and re.search(r"(?:ATLAS_|R)2[._]1(?!\d)", path)
    return "R2.1" if is_r21 else layout.release


def _without_testing(scans: dict[_Key, _Scan]) -> dict[_Key, _Scan]:
    def is_testing(key: _Key, scan: _Scan) -> bool:
        # Testing/R001/sub-r001s001/ses-1/anat: only the folder directly above the site counts.
        return key.release == "R2.0" and not scan.main and Path(scan.t1[0]).parents[4].name == "Testing"

    kept = {key: scan for key, scan in scans.items() if not is_testing(key, scan)}
    if len(kept) < len(scans):
        skipped = len(scans) - len(kept)
        logger.info("Skipped %d scans of R2.0's Testing folder: they were published without masks.", skipped)
    return kept


def _without_native(scans: dict[_Key, _Scan]) -> dict[_Key, _Scan]:
    if ("R1.2", "_stx") not in {(key.release, key.space) for key in scans}:
        return scans
    kept = {key: scan for key, scan in scans.items() if key.release != "R1.2" or key.space}
    if len(kept) < len(scans):
        skipped = len(scans) - len(kept)
        logger.info("R1.2 lies here in standard space and natively: read standard space, skipped %d scans.", skipped)
    return kept


def _incomplete(scans: Collection[_Scan]) -> list[Fault]:
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


def _record(key: _Key, scan: _Scan, metadata: dict[str, dict[str, Row]]) -> Record:
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


def _may_be_in_two_releases(records: Sequence[Record]) -> Fault:
    return Fault(
        "scans of persons who may be in two releases",
        "scan of a person who may be in two releases",
        sorted(record["image"] for record in untold(records)),
        "Expected releases whose persons can be told apart: R1.1 and R1.2 hold the same persons, later releases most of "
        "them again, and only R2.0's metadata table says who is who. Point --dataset_dir at one release, or put that "
        "table into R2.0's folder and read R2.0 with one of R1.1 and R1.2.",
    )


def _nothing_found(root: Path, files: Sequence[str]) -> str:
    lines = [
        f"No labeled T1w scan found in {root}. Layouts looked for, with an example of each:",
        *(f"{layout.release}: {layout.example}" for layout in LAYOUTS),
        f"Found instead ({len(files)} files):",
        *(os.path.relpath(path, root) for path in files[:10]),
    ]
    return "\n  ".join(lines) + "\nPoint --dataset_dir at the folder of one release, or rename the files accordingly."
