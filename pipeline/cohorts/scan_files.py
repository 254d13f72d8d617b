"""Files of each scan of a folder: T1w scans, masks and tables, collected by the names in `layouts`. No image is opened."""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.layouts import Layout, drawn_elsewhere, identify_file
from strokelesion.pipeline.cohorts.metadata import Table, read_table
from strokelesion.pipeline.runtime.errors import Fault
from strokelesion.pipeline.runtime.walking import walk

logger = logging.getLogger(__name__)


class ScanKey(NamedTuple):
    """Names of a scan, by which its files are found."""

    release: str
    subject: str
    session: str
    space: str


@dataclass
class ScanFiles:
    """Files of one scan, collected one by one; `other` are masks of something else."""

    layout: Layout
    site: str
    t1: list[str] = field(default_factory=list)
    main: list[str] = field(default_factory=list)
    sub: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def add(self, kind: str, path: str) -> None:
        """Add a file, unless it is a link to one that is there."""
        files: list[str] = getattr(self, kind)
        if os.path.realpath(path) not in map(os.path.realpath, files):
            files.append(path)

    def choose_mask(self) -> None:
        """Leave out the masks that were drawn on other images by their names, if exactly one remains."""
        near = [mask for mask in self.main if not any(drawn_elsewhere(mask, scan) for scan in self.t1)]
        if len(near) == 1:
            self.other += [mask for mask in self.main if mask not in near]
            self.main = near

    @property
    def is_complete(self) -> bool:
        """Return whether there is one T1w scan with one main mask."""
        return len(self.t1) == len(self.main) == 1

    def files_as_items(self) -> list[dict[str, str]]:
        """Return each file as an item of its own."""
        return [{"image": path} for path in self.t1] + [{"main_mask": path} for path in self.main + self.sub]


Scans = Mapping[ScanKey, ScanFiles]


def list_files(root: Path) -> tuple[list[str], list[str]]:
    """Return all files, also through links, and the hidden files and folders, which are skipped."""
    files: list[str] = []
    hidden: list[str] = []
    for folder, _, names in walk(root):
        files += (str(folder / name) for name in names)
        hidden += (str(folder / name) for name in sorted(os.listdir(folder)) if name.startswith("."))
    return files, hidden


def sort_files(files: Iterable[str], parent: Path) -> tuple[Scans, dict[str, list[Table]], list[Fault]]:
    """Return the files of each scan, the tables of each layout, and the faults of unreadable tables."""
    scans: dict[ScanKey, ScanFiles] = {}
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
                faults.append(_explain_unreadable(path, error))
            continue
        # R2.1 and R3.0 have the same file names.
        release = "R2.1" if layout.release == "R3.0" and re.search(r"(?:ATLAS_|R)2[._]1(?!\d)", path) else layout.release
        key = ScanKey(release, names["subject"], names["session"], names.get("space", ""))
        scan = scans.setdefault(key, ScanFiles(layout, names.get("site", "unknown")))
        scan.add({"mask": "sub" if names.get("number") else "main"}.get(kind, kind), path)
    for scan in scans.values():
        scan.choose_mask()
    # Masks of brains or of functional images alone make no scan.
    return {key: scan for key, scan in scans.items() if scan.t1 or scan.main or scan.sub}, tables, faults


def without_testing(scans: Scans) -> Scans:
    """Return the scans without those of R2.0's Testing folder, which have no masks."""
    # Testing/R001/sub-r001s001/ses-1/anat: only the folder directly above the site counts.
    testing = {
        key
        for key, scan in scans.items()
        if key.release == "R2.0" and not scan.main and Path(scan.t1[0]).parents[4].name == "Testing"
    }
    if testing:
        logger.info("Skipped %d scans of R2.0's Testing folder: they were published without masks.", len(testing))
    return {key: scan for key, scan in scans.items() if key not in testing}


def without_native(scans: Scans) -> Scans:
    """Return the scans without the native ones of R1.2, if it is there in standard space too."""
    has_standard = any(key.release == "R1.2" and key.space for key in scans)
    native = {key for key in scans if has_standard and key.release == "R1.2" and not key.space}
    if native:
        logger.info("R1.2 lies here in standard space and natively: read standard space, skipped %d scans.", len(native))
    return {key: scan for key, scan in scans.items() if key not in native}


def _explain_unreadable(path: str, error: UserError) -> Fault:
    advice = "Expected a CSV, TSV or XLSX table with a header. Copy or download it again, or move it away."
    return Fault(f"metadata table cannot be read ({error})", f"cannot be read as a table ({error})", [path], advice)
