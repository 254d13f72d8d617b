"""Write lesion masks as fMRIPrep, sMRIPrep and QSIPrep read them, into a folder of its own.

    FOLDER/sub-01/ses-1/anat/sub-01_ses-1_label-lesion_roi.nii.gz   a copy of the binary mask, on the T1w's own grid
    FOLDER/.bidsignore                                              the line that the raw data set then needs

These programs read the files beside the T1w in the raw data set, which this one never changes: the user copies them there.

Source: query `roi` of niworkflows.utils.bids (datatype anat, suffix roi), and the part about lesions of "Processing pipeline
details" in the documentation of fMRIPrep.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.bids_sources import find_dataset, read_links
from strokelesion.pipeline.derivatives.provenance import scan_sources, sources_of
from strokelesion.pipeline.derivatives.result_names import ScanName, mask_of_record, parse_entities
from strokelesion.pipeline.finding.suffixes import stem_of
from strokelesion.pipeline.runtime.errors import format_issue
from strokelesion.pipeline.runtime.files import write_bytes, write_text

ROI = "label-lesion_roi.nii.gz"
IGNORED = "*lesion_roi.nii.gz"
ADVICE = "Expected files such as sub-01_T1w.nii.gz; convert DICOM to BIDS first."
logger = logging.getLogger(__name__)


def require_own_tree(target: str, folder: Path, items: Sequence[Mapping[str, Any]]) -> None:
    """Raise UserError if the masks would be written into the data set of a scan, or among the results.

    Args:
        target: Folder for the masks.
        folder: Folder of the results.
        items: Scans as `find_scans` lists them.
    """
    data_sets = {root.resolve() for item in items for path in scan_sources(item) if (root := data_set_of(path))}
    for taken, what in [(folder.resolve(), "the results"), *((root, "a data set of scans") for root in sorted(data_sets))]:
        if Path(target).resolve().is_relative_to(taken):
            raise UserError(
                f"--for_fmriprep got {target}, which lies in {taken}, the folder of {what}; expected a folder elsewhere. Copy "
                "its content into the raw data set yourself."
            )


def data_set_of(path: str) -> Path | None:
    """Return the data set of a scan: the folder that describes itself as one, or else that above `sub-…`."""
    subjects = (folder.parent for folder in Path(path).parents if folder.name.startswith("sub-"))
    return find_dataset(path) or next(subjects, None)


def gather_overlay(folder: Path, done: Sequence[tuple[ScanName, Mapping[str, Any]]], _: Mapping[str, str], target: Any) -> None:
    """Write the masks of all scans with BIDS names, and `.bidsignore`; log which scans have other names.

    Args:
        folder: Folder of the results.
        done: Names and sidecars of the scans that are done.
        target: Folder for the masks.
    """
    links = read_links(folder)
    left_out = []
    for name, sidecar in done:
        if is_t1w_of_bids(name, sources_of(sidecar, links)):
            write_bytes(Path(target) / name.path(ROI), mask_of_record(folder, name).read_bytes())
        else:
            left_out.append(str(name))
    ignored = Path(target) / ".bidsignore"
    known = ignored.read_text().splitlines() if ignored.exists() else []
    write_text(ignored, "".join(f"{line}\n" for line in dict.fromkeys([*known, IGNORED])))
    if left_out:
        logger.warning("%s", format_issue(f"scans have no BIDS name and are not in {target}", left_out, ADVICE))


def is_t1w_of_bids(name: ScanName, sources: Sequence[str]) -> bool:
    """Return whether a scan is a T1w file with a BIDS name, so that a mask beside it belongs to it."""
    stems = [stem_of(Path(source).name) for source in sources]
    return any(stem.endswith("_T1w") and parse_entities(stem) == name.entities for stem in stems)
