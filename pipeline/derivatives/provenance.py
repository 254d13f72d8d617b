"""Link a result to its scan: source files, the hash of their content, and results of other scans in the folder."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.bids_sources import Links, from_uri, read_links
from strokelesion.pipeline.derivatives.result_names import SIDECAR, ScanName, name_of_result
from strokelesion.pipeline.finding.scans import scan_name
from strokelesion.pipeline.runtime.derived_files import sha256_of_files
from strokelesion.pipeline.runtime.errors import format_issue, refuse
from strokelesion.transforms.conversion import DicomImage
from strokelesion.transforms.reading import voxel_file


def scan_files(item: Mapping[str, Any]) -> list[Path]:
    """Return the files that a scan is read from: its file and those with its voxels or affine, or its DICOM files in order."""
    image = item["image"]
    return [Path(file) for file in image.files] if isinstance(image, DicomImage) else [Path(image), *files_beside(Path(image))]


def files_beside(path: Path) -> list[Path]:
    """Return the files beside a header that belong to it: voxels (`.img`, `.raw`) and the affine of SPM (`.mat`)."""
    if path.suffix.lower() in (".mhd", ".nhdr"):
        try:
            voxels = voxel_file(path)
        except UserError:  # loading says why
            return []
        return [] if voxels in (None, path) else [voxels]
    if path.suffix.lower() not in (".hdr", ".img"):
        return []
    files = (path.with_suffix(suffix) for suffix in (".hdr", ".HDR", ".img", ".IMG", ".mat"))
    there = {os.path.realpath(file): file for file in files if file.is_file()}
    return [file for real, file in there.items() if real != os.path.realpath(path)]


def scan_sources(item: Mapping[str, Any]) -> list[str]:
    """Return the absolute paths of what a result is made from: a file, or the folders of a DICOM series."""
    image = item["image"]
    paths = image.folders if isinstance(image, DicomImage) else [image]
    return [os.path.abspath(path) for path in paths]


def series_uid(item: Mapping[str, Any]) -> str | None:
    """Return the SeriesInstanceUID of a DICOM series; None for another scan."""
    return item["image"].series if isinstance(item["image"], DicomImage) else None


def sha256_of_scan(item: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a scan's files, see `scan_files`, and of the suffix of its image in a DICOM series."""
    return sha256_of_files(scan_files(item), item["image"].suffix.encode() if isinstance(item["image"], DicomImage) else b"")


def is_made_from(sidecar: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    """Return whether a result was made from the content that a scan has now.

    It was not if the scan cannot be read: loading then says why, without stopping the others.
    """
    try:
        return sidecar.get("InputSHA256") == sha256_of_scan(item)
    except OSError:
        return False


def read_sidecar(path: Path) -> dict[str, Any]:
    """Return the content of a mask's sidecar; an empty dictionary if the file is missing or damaged."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_of_other_scan(sidecar: Mapping[str, Any], item: Mapping[str, Any], links: Links) -> bool:
    """Return whether a sidecar is of another scan: another source or series, and another content."""
    if "Sources" not in sidecar:
        return False
    known = sources_of(sidecar, links), sidecar.get("SeriesInstanceUID")
    return known != (scan_sources(item), series_uid(item)) and not is_made_from(sidecar, item)


def sources_of(sidecar: Mapping[str, Any], links: Links) -> list[str]:
    """Return the paths of the sources that a sidecar names."""
    return [from_uri(uri, links) for uri in sidecar["Sources"]]


def require_own(folder: Path, names: Mapping[ScanName, Mapping[str, Any]]) -> None:
    """Raise UserError if a folder holds results of other scans under the names of these.

    Args:
        folder: Folder of the results.
        names: Scans by the names of their results.
    """
    others, links = [], read_links(folder)
    for name, item in names.items():
        known = read_sidecar(folder / name.path(SIDECAR))
        if is_of_other_scan(known, item, links):
            others.append(f"{name}: of {', '.join(sources_of(known, links))}, and now of {scan_name(item)}")
    advice = (
        "Expected results of the same scans. Name a folder that holds all of them (--scans), or another --output_dir; "
        "--overwrite true replaces the results."
    )
    refuse([format_issue(f"results in {folder} are of other scans", others, advice)])


def earlier_names(folder: Path, names: Iterable[ScanName]) -> list[ScanName]:
    """Return the names of results in a folder that are not among these: those of other runs, as in a loop over patients."""
    known = {folder / name.path(SIDECAR) for name in names}
    found = [path for path in folder.glob("sub-*/**/*_label-lesion*_mask.json") if path not in known]
    return [name for path in found if (name := name_of_result(path)) is not None]
