"""Find the scans that a file, a folder or a glob names, as items of a data set."""

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from strokelesion.networks import UserError
from strokelesion.pipeline.finding.acquisition import objection_to_file
from strokelesion.pipeline.finding.candidates import Candidates, find_candidates
from strokelesion.pipeline.finding.dicom import LeftOut, NamedImage, find_series, is_dicom, whole_series
from strokelesion.pipeline.finding.suffixes import IMAGE_SUFFIXES, reason_not_read, stem_of
from strokelesion.pipeline.runtime.errors import format_issue, refuse

logger = logging.getLogger(__name__)


class Scans(list[dict[str, Any]]):
    """Scans as items with `image`; `left_out` says what was found besides, and why it is not segmented."""

    def __init__(self, items: Iterable[dict[str, Any]] = (), left_out: Iterable[LeftOut] = ()) -> None:
        super().__init__(items)
        self.left_out = list(left_out)


Labels = str | Sequence[str] | None


def find_scans(scans: str | Path | None, participants: Labels = None, sessions: Labels = None, take: str = "t1w") -> Scans:
    """Return the scans that a file, a folder or a glob names, as items with `image`, sorted by path.

    The search of a folder includes its subfolders, see `find_candidates`. In the item of a DICOM series, `image` is a
    `DicomImage` and `name` a path that names it. A DICOM file stands for its whole series.

    Args:
        scans: File, folder or glob; None gives an empty list.
        participants: BIDS labels of the subjects to keep, with or without `sub-`, as a list or separated by commas; None
            keeps all.
        sessions: BIDS labels of the sessions to keep, in the same forms.
        take: `t1w` takes images named T1w if there are any, and DICOM series where there are no other images; `all` takes all
            that may be a T1.

    Raises:
        UserError: when no scan was found, or a participant or session has no scan.
    """
    found = Scans() if scans is None else find_all_scans(scans, take)
    return scans_of(scans_of(found, "sub", participants), "ses", sessions)


def scans_of(found: Scans, entity: str, labels: Labels) -> Scans:
    """Return the scans whose path contains one of the given labels of a BIDS entity; None keeps all.

    Raises:
        UserError: when a label has no scan.
    """
    if labels is None:
        return found
    # The command line reads 10 as a number and 10,11 as a tuple.
    words = labels if isinstance(labels, list | tuple) else str(labels).split(",")
    wanted = {f"{entity}-{str(word).strip().removeprefix(f'{entity}-')}" for word in words}
    named = [wanted.intersection(re.split(r"[/\\_]", scan_name(item))) for item in found]
    advice = f"Expected labels of the folders {entity}-*; in Python give them as text, such as '01'."
    refuse([format_issue("labels have no scan", sorted(wanted.difference(*named)), advice)])
    return Scans((item for item, known in zip(found, named, strict=True) if known), found.left_out)


def find_all_scans(scans: str | Path, take: str) -> Scans:
    """Return all scans of a file, a folder or a glob, see `find_scans`."""
    path = Path(scans)
    named = [path] if os.path.lexists(path) else sorted(map(Path, glob.glob(str(scans), recursive=True)))
    found, slices = Candidates(), []
    for path in named:
        if path.is_dir():
            found.add(find_candidates(path, take))
        elif is_dicom(path):
            slices.append(path)
        elif why := reason_not_read(path.name):
            found.leave_out(path, why)
        else:
            found.images.append(path)
    found.dicom += map(Path, whole_series(slices))
    return as_items(found, scans, take)


def as_items(found: Candidates, scans: str | Path, take: str) -> Scans:
    """Return the candidates as items.

    Raises:
        UserError: when there is none, or two would write the same mask.
    """
    series: list[NamedImage] = []
    objections = [(path, objection_to_file(path)) for path in found.images]
    found.left_out += [LeftOut(str(path), why) for path, why in objections if why]
    found.images = [path for path, why in objections if not why]
    if found.images and take == "t1w":
        found.left_out += beside_images(found.dicom)
    elif found.dicom:
        series, left_out = find_series(found.dicom)
        found.left_out += left_out
    if not found.images and not series:
        raise UserError(nothing_found(found, scans))
    refuse_twins(found.images)
    items = [{"image": str(path)} for path in dict.fromkeys(found.images)]
    return Scans([*items, *({"image": one.image, "name": one.name} for one in series)], found.left_out)


def beside_images(dicom: Sequence[Path]) -> list[LeftOut]:
    """Return the folders of DICOM files that are left out because there are other images."""
    count = Counter(str(path.parent) for path in dicom)
    advice = "DICOM files beside other images; --take all takes them"
    return [LeftOut(folder, f"{files} {advice}") for folder, files in count.items()]


def nothing_found(found: Candidates, scans: str | Path) -> str:
    """Return the message that there is no scan, with what was left out."""
    message = (
        f"found no scan at {scans}; expected a file, a folder or a glob of images ({', '.join(IMAGE_SUFFIXES)}), or "
        "a folder of DICOM series. Check --scans; quote a glob so that the shell does not expand it."
    )
    reasons = format_issue("files or folders are left out", list(map(": ".join, found.left_out)), "Name a scan, or its folder.")
    return "\n".join(filter(None, [message, reasons]))


def refuse_twins(scans: Sequence[Path]) -> None:
    """Raise UserError if two scans of a folder differ only in their suffix, because their masks would have the same name."""
    named: dict[Path, Path] = {}
    for scan in scans:
        twin = named.setdefault(scan.with_name(stem_of(scan.name)), scan)
        if twin != scan:
            raise UserError(f"{twin} and {scan} would write the same mask; expected names of their own. Move one away.")


def scan_name(item: Mapping[str, Any]) -> str:
    """Return the path that identifies a scan: that of its file, or the folder and name of a DICOM series."""
    return str(item.get("name") or item["image"])


def common_folder(items: Sequence[Mapping[str, Any]]) -> str:
    """Return the deepest folder that holds all scans; names of results depend only on the path below it."""
    return os.path.commonpath([Path(scan_name(item)).absolute().parent for item in items])
