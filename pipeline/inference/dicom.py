"""Find the DICOM series in a folder, name them by patient and series, and leave out those that cannot be a T1 of a head.

ITK (GDCM) groups the files of a folder into series and orders their slices; `SeriesReader` reads one series. A study also holds
series that are not T1: localizers, other contrasts, other modalities. They are left out, each with a reason in the log.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import itk

from strokelesion.pipeline.runtime.errors import format_issue, refuse

TAGS = {
    "modality": "0008|0060",
    "patient": "0010|0020",
    "number": "0020|0011",
    "description": "0008|103e",
    "echo_time_ms": "0018|0081",
}
# A series with fewer slices is a localizer, not a volume.
LEAST_SLICES = 20
# T1-weighted sequences have echo times of 2 to 20 ms; T2, FLAIR and diffusion have 60 ms and more.
LONGEST_ECHO_MS = 30.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Series:
    """One DICOM series.

    Attributes:
        folder: Folder that holds its files.
        files: Paths of its files in the order of the slices.
        slices: Number of slices.
        tags: `modality`, `patient`, `number`, `description` and `echo_time_ms` as text; "" if the files lack the tag.
    """

    folder: str
    files: tuple[str, ...]
    slices: int
    tags: dict[str, str]

    @property
    def name(self) -> str:
        """Return patient, number and description in letters, digits and hyphens: `P001_3_t1-mprage`."""
        parts = [re.sub(r"[^A-Za-z0-9]+", "-", self.tags[tag]).strip("-") for tag in ("patient", "number", "description")]
        return "_".join(filter(None, parts)) or Path(self.files[0]).stem

    @property
    def objection(self) -> str:
        """Return why the series cannot be a T1-weighted scan of a head; "" if it can."""
        if self.tags["modality"] != "MR":
            return f"modality {self.tags['modality'] or 'unknown'}, not MR"
        if self.slices < LEAST_SLICES:
            return f"{self.slices} slices, no volume"
        if (echo_ms := milliseconds(self.tags["echo_time_ms"])) > LONGEST_ECHO_MS:
            return f"echo time {echo_ms:g} ms, not T1-weighted"
        return ""


def find_series(folder: str | Path) -> list[Series]:
    """Return the series in a folder and its subfolders that can be T1-weighted scans, sorted by folder and name.

    The log says why the other series are left out.

    Raises:
        UserError: when there are series but all are left out; the message gives the reason for each.
    """
    found = sorted(all_series(Path(folder)), key=lambda series: (series.folder, series.name))
    kept = [series for series in found if not series.objection]
    reasons = [f"{series.name} in {series.folder}: {series.objection}" for series in found if series.objection]
    if not kept:
        what = f"DICOM series below {folder}, none a T1-weighted scan"
        refuse([format_issue(what, reasons, "Give the folder of the T1 series.")])
    for reason in reasons:
        logger.info("left out %s", reason)
    return kept


def all_series(folder: Path) -> Iterator[Series]:
    """Yield every series of a folder and its subfolders."""
    folders = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
    for one in folders:
        if any(path.is_file() for path in one.iterdir()):
            yield from series_in(one)


def series_in(folder: Path) -> Iterator[Series]:
    """Yield the series whose files lie directly in a folder."""
    names = itk.GDCMSeriesFileNames.New()
    names.SetUseSeriesDetails(True)
    names.SetDirectory(str(folder))
    for identifier in names.GetSeriesUIDs():
        yield read_series(str(folder), tuple(names.GetFileNames(identifier)))


def read_series(folder: str, files: tuple[str, ...]) -> Series:
    """Return a series with the tags of its first file."""
    header = itk.GDCMImageIO.New()
    header.SetFileName(files[0])
    header.ReadImageInformation()
    values = header.GetMetaDataDictionary()
    tags = {name: values[tag].strip(" \0") if values.HasKey(tag) else "" for name, tag in TAGS.items()}
    frames = header.GetDimensions(2) if header.GetNumberOfDimensions() > 2 else 1
    return Series(folder, files, len(files) * int(frames), tags)


def milliseconds(text: str) -> float:
    """Return a DICOM number: the first if there are several, 0 if there is none."""
    try:
        return float(text.split("\\")[0])
    except ValueError:
        return 0.0
