"""Save masks that a person has drawn beside the automatic ones, which never change.

The manual mask is the file that counts, and it is written last: a reader sees the old mask or the new one. The map of the
classes only says which class a voxel of the mask has. If a save was killed between the two files, its voxels outside the mask
do not count, and voxels of the mask without a class have that of the automatic map, or else are main.
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.provenance import read_sidecar
from strokelesion.pipeline.derivatives.result_names import (
    CLASSES_MAP,
    MANUAL_CLASSES,
    MANUAL_MASK,
    MASK,
    SIDECAR,
    ScanName,
    parse_entities,
)
from strokelesion.pipeline.derivatives.scan_images import COMPRESSION, path_in
from strokelesion.pipeline.review.decisions import (
    ACCEPTED,
    CORRECTED,
    Decision,
    locked_for_saving,
    read_decisions,
    write_decision,
)
from strokelesion.pipeline.runtime.derived_files import sha256_of_files
from strokelesion.pipeline.runtime.errors import format_issue, refuse
from strokelesion.pipeline.runtime.files import write_json, write_nifti


class OutdatedError(UserError):
    """The version that a save started from is not the current one."""


@dataclass(frozen=True)
class Reviewed:
    """One scan of a results folder under review.

    Attributes:
        folder: Folder of the results.
        name: Name of the scan.
    """

    folder: Path
    name: ScanName

    def path(self, file: str) -> Path:
        """Return the path of a file of the scan, see `path_in`."""
        return path_in(self.folder, self.name, file)

    @property
    def mask(self) -> Path:
        """Return the mask of record: the manual mask if there is one, else the automatic one."""
        return self.path(MANUAL_MASK if self.has_manual else MASK)

    @property
    def has_manual(self) -> bool:
        """Return whether there is a manual mask."""
        return self.path(MANUAL_MASK).exists()

    def decision(self) -> Decision:
        """Return the decision about the scan."""
        return read_decisions(self.folder).get(str(self.name), Decision())

    def version(self, decision: Decision) -> str:
        """Return a text that changes with the decision and with the mask of record."""
        state = self.mask.stat()
        seen = (*decision.__dict__.values(), self.mask.name, state.st_size, state.st_mtime_ns)
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]

    def decide(self, version: str, status: str, initials: str, note: str) -> None:
        """Save a decision about the mask of record; an accepted mask that is a manual one is stored as corrected.

        Raises:
            OutdatedError: The version is not the current one; nothing is written.
        """
        self._save(version, lambda: None, status, initials, note)

    def correct(self, version: str, labels: NDArray[np.uint8], initials: str, note: str) -> None:
        """Save a corrected label map `(X, Y, Z)` on the scan's grid as the mask of record, and the scan as corrected.

        Raises:
            OutdatedError: The version is not the current one; nothing is written.
        """
        self._save(version, lambda: write_manual(self, labels, initials), CORRECTED, initials, note)

    def _save(self, version: str, write: Callable[[], None], status: str, initials: str, note: str) -> None:
        with locked_for_saving(self.folder):
            if version != self.version(self.decision()):
                raise OutdatedError(f"{self.name} was changed elsewhere since this page was loaded. Load it again.")
            write()
            if status == ACCEPTED and self.has_manual:
                status = CORRECTED
            decided = Decision(status, initials, now(), note, sha256_of_files([self.mask]))
            write_decision(self.folder, str(self.name), decided)


def now() -> str:
    """Return date and time with their offset from UTC in the form of ISO 8601."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def write_manual(scan: Reviewed, labels: NDArray[np.uint8], initials: str, **known: Any) -> None:
    """Write a label map `(X, Y, Z)` as manual mask and map of the classes, with the grid of the automatic mask.

    Args:
        scan: Scan in its folder.
        labels: 0 background, 1 main lesion, 2 sub-lesion.
        initials: Initials of the person who drew it.
        known: Entries of the sidecars that replace those of a mask drawn now.
    """
    automatic = scan.path(MASK)
    header: Any = nib.load(automatic).header
    about = {
        "Manual": True,
        "Sources": [*read_sidecar(scan.path(SIDECAR)).get("Sources", []), f"bids::{scan.name.path(MASK).as_posix()}"],
        "Annotator": initials,
        "Date": now(),
        "AutomaticSHA256": sha256_of_files([automatic]),
        **known,
    }
    for file, values, more in (
        (MANUAL_CLASSES, labels, {}),
        (MANUAL_MASK, (labels > 0).astype(np.uint8), {"Type": "Lesion"}),
    ):
        write_json(scan.path(file.replace(".nii.gz", ".json")), {**about, **more})
        # The affine and the data type of the header must stay; without them nibabel would change the codes or the values.
        image = nib.Nifti1Image(values, header.get_best_affine(), header, dtype=np.uint8)
        write_nifti(scan.path(file), image, COMPRESSION)


def read_labels(scan: Reviewed) -> NDArray[np.uint8]:
    """Return the label map `(X, Y, Z)` of the mask of record; a voxel of the mask without a class is main."""
    inside = read_voxels(scan.mask) > 0
    labels = np.zeros(inside.shape, np.uint8)
    for file in (CLASSES_MAP, *([MANUAL_CLASSES] if scan.has_manual and scan.path(MANUAL_CLASSES).exists() else [])):
        known = read_voxels(scan.path(file))
        labels = np.where(np.isin(known, (1, 2)), known, labels)
    return (np.where(labels == 0, 1, labels) * inside).astype(np.uint8)


def read_voxels(path: Path) -> NDArray[Any]:
    """Return the voxels of an image."""
    image: Any = nib.load(path)
    return np.asarray(image.dataobj)


def find_reviewed(folder: str | Path) -> dict[str, Reviewed]:
    """Return the scans of a results folder by name, in the order of `volumes.tsv`.

    Raises:
        UserError: The folder has no table of scans, or no scan in it has a mask, or two scans have one manual mask.
    """
    table = Path(folder) / "volumes.tsv"
    if not table.is_file():
        raise UserError(f"{folder} has no volumes.tsv; expected a folder that `strokelesion segment` has written.")
    with table.open(encoding="utf-8", newline="") as file:
        texts = [row.get("scan") or "" for row in csv.DictReader(file, delimiter="\t")]
    entities = {text: parse_entities(f"{text}_mask") for text in texts}
    named = {text: Reviewed(Path(folder), ScanName(known)) for text, known in entities.items() if known is not None}
    found = {text: scan for text, scan in named.items() if scan.path(MASK).is_file()}
    if not found:
        raise UserError(f"{folder} has no mask of a scan in volumes.tsv; expected the results of `strokelesion segment`.")
    owners = Counter(scan.path(MANUAL_MASK) for scan in found.values())
    twins = [name for name, scan in found.items() if owners[scan.path(MANUAL_MASK)] > 1]
    refuse([format_issue("scans differ only by `desc`, which manual masks replace", twins, "Segment them to two folders.")])
    return found
