"""Find the DICOM series among files, name them by patient and series, and leave out images that cannot be a T1 of a head.

Series are identified by their UIDs, in any folder. ITK reads a few tags of each file; `convert_series` (dcm2niix) lists the
images of a series. A study also has images that are no T1: localizers, phases, other contrasts, other modalities.
Each is left out with a reason.
"""

import hashlib
import logging
import os
import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from nibabel.filebasedimages import ImageFileError
from tqdm import tqdm

from strokelesion.pipeline.finding.acquisition import LONGEST_ECHO_MS, objection_to_metadata
from strokelesion.pipeline.runtime.processes import is_first
from strokelesion.transforms.conversion import ConvertedImage, DicomImage, convert_series

TAGS = {
    "modality": "0008|0060",
    "instance": "0008|0018",
    "patient": "0010|0020",
    "study": "0020|000d",
    "series": "0020|000e",
    "number": "0020|0011",
    "description": "0008|103e",
    "echo_time_ms": "0018|0081",
    "contrast_agent": "0018|0010",
}
# An image with fewer slices is a localizer. A clinical 2D scan of a head has 19 or more.
LEAST_SLICES = 10
# Parts of a complex image other than its magnitude, as dcm2niix marks them.
NO_MAGNITUDE = re.compile(r"_(ph|real|imaginary|MoCo|ROI|Tilt|Eq)")
NAME_DIGITS = 8
UNREAD = "cannot be read as DICOM"
# Errors of damaged files and of what dcm2niix makes of them; such a series fails, and the others are segmented.
DAMAGED = (OSError, ValueError, zlib.error, ImageFileError)
logger = logging.getLogger(__name__)


class LeftOut(NamedTuple):
    """What is not segmented, and why."""

    path: str
    reason: str


class Header(NamedTuple):
    """What is needed of one DICOM file to sort it into a series: path, number of frames, and the tags of `TAGS`."""

    path: str
    frames: int
    tags: dict[str, str]

    @property
    def key(self) -> tuple[str, ...]:
        """Return what identifies the series: patient, study and series; the folder stands in for a missing UID."""
        return self.tags["patient"], self.tags["study"], self.tags["series"] or str(Path(self.path).parent)


class NamedImage(NamedTuple):
    """An image of a series, and the path that its results are named after."""

    name: str
    image: DicomImage


def is_dicom(path: str | Path) -> bool:
    """Return whether a file starts as DICOM does: with `DICM` after 128 bytes or, without that, with an early tag."""
    try:
        with open(path, "rb") as file:
            start = file.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or re.match(rb"[\x02\x08]\x00.\x00(UI|UL|CS|DA|..\x00\x00)", start, re.DOTALL) is not None


def find_series(files: Iterable[str | Path]) -> tuple[list[NamedImage], list[LeftOut]]:
    """Return the images among DICOM files that can be T1-weighted scans, sorted by name, and what is left out.

    An image whose slices have uneven distances, or a series that dcm2niix cannot convert, is returned with an objection: it
    fails when it is its turn, and the others are segmented.
    """
    named: list[tuple[str, DicomImage]] = []
    series, unread = group_files(files)
    left_out = [LeftOut(path, UNREAD) for path in unread]
    for headers in tqdm(series, desc="DICOM series", unit="series", leave=False, disable=len(series) < 2 or not is_first()):
        name = series_name(headers)
        if reason := objection_to(headers):
            left_out.append(LeftOut(name, reason))
            continue
        try:
            taken, others = images_of(headers)
        except DAMAGED as error:
            taken, others = [failed_series(headers, str(error) or type(error).__name__)], []
        named += [(f"{name}{clean(image.suffix, '_')}", doubt_beside(unread, image)) for image in taken]
        left_out += [LeftOut(f"{name}{clean(suffix, '_')}", reason) for suffix, reason in others]
    return distinguish(sorted(named, key=lambda one: (one[0], one[1].series))), sorted(left_out)


def doubt_beside(unread: Sequence[str], image: DicomImage) -> DicomImage:
    """Return an image with a doubt if files in its folders cannot be read: they may be slices of it."""
    count = sum(str(Path(path).parent) in image.folders for path in unread)
    return replace(image, doubts=(*image.doubts, f"{count} files beside it: {UNREAD}")) if count else image


def group_files(files: Iterable[str | Path]) -> tuple[list[list[Header]], list[str]]:
    """Return the headers of all DICOM files, one list for each series, sorted by path, and the files that cannot be read."""
    series: defaultdict[tuple[str, ...], list[Header]] = defaultdict(list)
    unread = []
    for path in sorted(map(str, files)):
        if header := read_header(path):
            series[header.key].append(header)
        elif Path(path).name != "DICOMDIR":  # the directory of a CD
            unread.append(path)
    return [without_copies(headers) for headers in series.values()], unread


def read_header(path: str) -> Header | None:
    """Return the header of a DICOM file; None if it cannot be read."""
    import itk  # takes seconds, and most scans need none of it

    header = itk.GDCMImageIO.New()
    header.SetFileName(path)
    try:
        header.ReadImageInformation()
    except RuntimeError:
        return None
    values = header.GetMetaDataDictionary()
    frames = header.GetDimensions(2) if header.GetNumberOfDimensions() > 2 else 1
    return Header(
        path, int(frames), {name: values[tag].strip(" \0") if values.HasKey(tag) else "" for name, tag in TAGS.items()}
    )


def without_copies(headers: Sequence[Header]) -> list[Header]:
    """Return the headers of a series without those of files that are equal to another one."""
    count = Counter(header.tags["instance"] for header in headers)
    kept: dict[str, Header] = {}
    for header in headers:
        is_single = count[header.tags["instance"]] == 1
        kept.setdefault(header.path if is_single else hashlib.sha256(Path(header.path).read_bytes()).hexdigest(), header)
    return list(kept.values())


def objection_to(headers: Sequence[Header]) -> str:
    """Return why a series cannot hold a T1-weighted scan of a head by the tags of its files; "" if it can."""
    modality = headers[0].tags["modality"]
    if modality != "MR":
        return f"modality {modality or 'unknown'}, not MR"
    slices = sum(header.frames for header in headers)
    if slices < LEAST_SLICES:
        return f"{slices} slices, no volume"
    shortest_ms = min(number(header.tags["echo_time_ms"]) for header in headers)
    return f"echo time {shortest_ms:g} ms, not T1-weighted" if shortest_ms >= LONGEST_ECHO_MS else ""


def images_of(headers: Sequence[Header]) -> tuple[list[DicomImage], list[tuple[str, str]]]:
    """Return the images of a series that can be T1-weighted scans, and suffix and reason of all others."""
    files = tuple(header.path for header in headers)
    uid = headers[0].tags["series"]
    with convert_series(files, again=True) as converted:
        if not converted.images:
            why = "; ".join(converted.words) or "dcm2niix finds no image in it"
            return [failed_series(headers, why)], []
        others = {image.suffix: reason for image in converted.images if (reason := objection_to_type(image))}
        pieces = [image for image in converted.pieces() if image.suffix not in others]
        if pieces:
            why = f"dcm2niix makes {len(pieces)} pieces of it: {'; '.join(converted.words)}"
            return [failed_series(headers, why)], sorted(others.items())
        others |= {image.suffix: reason for image in converted.images if (reason := objection_to_shape(image))}
        taken = [image for image in converted.images if image.suffix not in others]
        agent = {"ContrastBolusAgent": headers[0].tags["contrast_agent"]}  # dcm2niix leaves it out
        taken = [image._replace(sidecar={**image.sidecar, **agent}) for image in taken]
        return [as_scan(files, uid, image) for image in taken], sorted(others.items())


def failed_series(headers: Sequence[Header], why: str) -> DicomImage:
    """Return a series that cannot be converted, with the reason as objection."""
    return DicomImage(tuple(header.path for header in headers), headers[0].tags["series"], "", {}, objection=why)


def as_scan(files: tuple[str, ...], uid: str, image: ConvertedImage) -> DicomImage:
    """Return an image that can be a scan, with an objection if it is no even volume."""
    objection = "" if image.is_volume else "; ".join(image.words) or "the distance of its slices varies"
    return DicomImage(files, uid, image.suffix, image.sidecar, image.words, objection)


def objection_to_type(image: ConvertedImage) -> str:
    """Return why an image cannot be a T1-weighted scan by its sidecar; "" if it can."""
    return "not the magnitude" if NO_MAGNITUDE.search(image.suffix) else objection_to_metadata(image.sidecar)


def objection_to_shape(image: ConvertedImage) -> str:
    """Return why an image is no volume of a head by its shape; "" if it can be one."""
    volumes = image.shape[3] if len(image.shape) > 3 else 1
    if min(image.shape[:3]) < LEAST_SLICES:
        return f"{' x '.join(map(str, image.shape[:3]))} voxels, a localizer"
    return f"{volumes} volumes, not one" if volumes > 1 else ""


def series_name(headers: Sequence[Header]) -> str:
    """Return the path that results of a series are named after: its folder, then patient, number and description."""
    folder = os.path.commonpath([str(Path(header.path).parent) for header in headers])
    parts = [clean(headers[0].tags[tag]) for tag in ("patient", "number", "description")]
    return f"{folder}/{'_'.join(filter(None, parts)) or clean(Path(headers[0].path).stem)}"


def clean(text: str, first: str = "") -> str:
    """Return a text in letters, digits and hyphens, without accents; after `first` unless it is empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")
    return first + words if words else ""


def distinguish(named: Sequence[tuple[str, DicomImage]]) -> list[NamedImage]:
    """Return images with names of their own: where several would have one name, digits made of the UID follow."""

    def letters(name: str) -> str:
        return re.sub(r"[^A-Za-z0-9/]", "", name)

    count = Counter(letters(name) for name, _ in named)
    return [NamedImage(name if count[letters(name)] == 1 else f"{name}_{uid_digits(image)}", image) for name, image in named]


def uid_digits(image: DicomImage) -> str:
    """Return digits that distinguish the image from all others: of its UID or, without UID, of its files."""
    return hashlib.sha256(f"{image.series or image.files}{image.suffix}".encode()).hexdigest()[:NAME_DIGITS]


def number(value: Any) -> float:
    """Return a number of a header: the first if there are several, 0 if there is none."""
    try:
        return float(re.split(r"[\\,]", str(value).strip("[]"))[0])
    except ValueError:
        return 0.0


def whole_series(files: Sequence[str | Path]) -> list[str]:
    """Return all files of the series that the given files belong to, as far as they are in the same folders."""
    given = set(map(str, files))
    folders = sorted({Path(file).parent for file in files})
    beside = [path for folder in folders for path in folder.iterdir() if path.is_file() and is_dicom(path)]
    series = [[header.path for header in headers] for headers in group_files(beside)[0]]
    return [path for paths in series if not given.isdisjoint(paths) for path in paths]
