"""Command `measure`: corrected masks become the masks of record, and everything that is made of a mask is made of them.

The options of the folder are those that it was segmented with. No network is run.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from monai.data import MetaTensor
from tqdm import tqdm

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.bids_sources import Links, read_links
from strokelesion.pipeline.derivatives.gathering import gather_results
from strokelesion.pipeline.derivatives.group_maps import COUNT
from strokelesion.pipeline.derivatives.manual_masks import (
    MANUAL_SIDECAR,
    is_measured,
    manual_files,
    of_record,
    read_about,
    read_automatic,
    read_corrected,
    write_record,
)
from strokelesion.pipeline.derivatives.outputs import as_settings, find_wanted
from strokelesion.pipeline.derivatives.provenance import is_made_from, read_sidecar, sources_of
from strokelesion.pipeline.derivatives.result_names import MANUAL_CLASSES, MANUAL_MASK, MASK, SIDECAR
from strokelesion.pipeline.finding.scans import find_scans
from strokelesion.pipeline.inference.prediction import failure, finish
from strokelesion.pipeline.lesions.lesion_table import read_atlas
from strokelesion.pipeline.lesions.roi_loads import read_rois
from strokelesion.pipeline.review.decisions import (
    CORRECTED,
    REJECTED,
    Decision,
    locked_for_saving,
    read_decisions,
    write_decision,
)
from strokelesion.pipeline.review.mask_names import match_masks
from strokelesion.pipeline.review.review_report import write_review_report
from strokelesion.pipeline.review.saving import Reviewed, find_reviewed, write_manual
from strokelesion.pipeline.runtime.derived_files import sha256_of_files
from strokelesion.pipeline.runtime.errors import format_issue
from strokelesion.pipeline.runtime.locks import claimed
from strokelesion.transforms.reading import load_volume

# Options that say where an output's content lies, by the name of the output.
PATHS = {"rois": ("rois",), "regions": ("atlas", "atlas_labels")}
GONE = "its manual mask is gone, but files of it are there. Write the automatic ones again: segment with --overwrite true"
logger = logging.getLogger(__name__)


def measure_corrected(folder: str | Path, masks: str | Path | None = None, overwrite: bool = False, **paths: Any) -> None:
    """Measure all manual masks of a results folder, and write tables, pages and the report of the review.

    Args:
        folder: Folder that `segment` wrote.
        masks: Folder of masks from other programs, which become the manual masks of their scans; see `match_masks`.
        overwrite: Whether such a mask may replace another manual mask.
        paths: `rois`, `atlas` and `atlas_labels` if they do not lie where they did.

    Raises:
        UserError: The folder holds no results, or a mask in `masks` belongs to no scan.
        SystemExit: with status 1 when a mask could not be measured; the others are.
    """
    root = Path(folder)
    scans = find_reviewed(root)
    with claimed(root, "output_dir"):
        known = {name: read_sidecar(scan.path(SIDECAR)) for name, scan in scans.items()}
        wanted = restore_outputs(root, known, paths)
        links = read_links(root)
        sources = {name: sources_of(sidecar, links) for name, sidecar in known.items()}
        given = {} if masks is None else match_masks(Path(masks), sources)
        chosen = {name: scan for name, scan in scans.items() if name in given or scan.has_manual}
        failed = find_gone(root, chosen)
        for name, scan in tqdm(chosen.items(), desc="masks", unit="mask"):
            try:
                measure_one(scan, known[name], links, wanted, given.get(name, ()), overwrite)
            except Exception as error:
                failed[name] = failure(name, error)
        records = [(scan.name, of_record(root, scan.name, known[name])) for name, scan in scans.items()]
        write_review_report(root, records)
        gather_results(root, wanted, records, read_failures(root))
        finish(len(chosen) + len(failed.keys() - chosen.keys()), failed, f"measured again, results in {root}")


def restore_outputs(root: Path, known: Mapping[str, Mapping[str, Any]], paths: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs that a folder was segmented with, and their values.

    Raises:
        UserError: The scans have other settings than each other, or an atlas or ROIs cannot be found again.
    """
    first, *_ = known.values()
    settings: Mapping[str, Any] = first.get("Settings") or {}
    if strange := [name for name, sidecar in known.items() if not settings or sidecar.get("Settings") != settings]:
        advice = "Segment all scans with the same options first."
        raise UserError(format_issue(f"scans in {root} have other settings than the first, or none", strange, advice))
    options = {**first.get("Options", {}), **{name: path for name, path in paths.items() if path is not None}}
    wanted = {**settings["outputs"], "group": (root / COUNT).exists(), "fmriprep": options.get("for_fmriprep")}
    for output in wanted.keys() & PATHS.keys():
        wanted[output] = read_again(output, options)
        if as_settings({output: wanted[output]})[output] != settings["outputs"][output]:
            where = ", ".join(options[name] for name in PATHS[output])
            raise UserError(f"{root} was segmented with another --{PATHS[output][0]} than {where}; expected the same. Name it.")
    if "dicom" in wanted:
        wanted["dicom"] = settings["weights"].rpartition(" ")[2]
    return find_wanted(wanted)


def read_again(output: str, options: Mapping[str, str]) -> Any:
    """Return the atlas or the ROIs that a folder was segmented with."""
    if missing := [name for name in PATHS[output] if name not in options or not Path(options[name]).exists()]:
        raise UserError(
            f"the results were made with --{missing[0]}, which is no longer at {options.get(missing[0], 'a known place')}; "
            f"expected it again. Give --{missing[0]}."
        )
    return read_rois(options["rois"]) if output == "rois" else read_atlas(options["atlas"], options["atlas_labels"])


def find_gone(root: Path, manual: Mapping[str, Reviewed]) -> dict[str, str]:
    """Return the scans whose manual masks were measured before and are no longer there, with advice."""
    table = root / "corrections.tsv"
    names = pd.read_csv(table, sep="\t")["scan"] if table.exists() else ()
    return {name: GONE for name in names if name not in manual}


def read_failures(root: Path) -> dict[str, str]:
    """Return the reasons of failures that `segment` wrote, by path of the scan."""
    table = root / "failures.tsv"
    return dict(pd.read_csv(table, sep="\t")[["scan", "reason"]].astype(str).to_numpy().tolist()) if table.exists() else {}


def measure_one(
    scan: Reviewed, known: Mapping[str, Any], links: Links, wanted: Mapping[str, Any], given: Sequence[Path], overwrite: bool
) -> None:
    """Make a given mask the manual mask of its scan, and write what is made of the manual mask, unless that was done."""
    if not given and is_measured(scan.folder, scan.name, known):
        return
    item = find_item(known, links)
    image = load_volume(item["image"], str(item.get("name") or ""))
    keep_manual(scan, image, given, overwrite)
    write_record(scan.folder, scan.name, item, image, known, wanted)
    record_decision(scan)


def find_item(known: Mapping[str, Any], links: Links) -> dict[str, Any]:
    """Return the scan that a result was made from, as `find_scans` lists it.

    Raises:
        UserError: It is no longer there, or it has changed.
    """
    sources = sources_of(known, links)
    if missing := [path for path in sources if not os.path.exists(path)]:
        raise UserError(
            f"its scan {missing[0]} is gone; expected the scan that was segmented. Bring it back there, or correct "
            "DatasetLinks in dataset_description.json."
        )
    series = known.get("SeriesInstanceUID")
    items = [{"image": sources[0]}] if series is None else find_scans(os.path.commonpath(sources), take="all")
    found = [item for item in items if is_made_from(known, item)]
    if not found:
        raise UserError(f"its scan {sources[0]} has changed; expected the scan that was segmented. Segment it again.")
    return found[0]


def keep_manual(scan: Reviewed, image: MetaTensor, given: Sequence[Path], overwrite: bool) -> None:
    """Write the manual mask of a scan as 0 and 1 on its grid, with the map of its classes, unless it is so already."""
    automatic = read_automatic(scan.folder, scan.name, image)
    labels = read_corrected(given or manual_files(scan.folder, scan.name), image, automatic)[0].numpy()
    about = read_about(scan.path(MANUAL_SIDECAR), read_sidecar(scan.path(SIDECAR)))
    if given:
        if is_kept(scan, labels):
            return
        if scan.has_manual and not overwrite:
            raise UserError(f"{given[0]} differs from {scan.mask}; expected one manual mask. Remove it, or give --overwrite.")
        drawn = datetime.fromtimestamp(given[0].stat().st_mtime).astimezone().isoformat(timespec="seconds")
        own = read_sidecar(scan.path(SIDECAR))["Sources"]
        about = {"Sources": [*own, *(path.absolute().as_uri() for path in given)], "Date": drawn}
    if given or not is_kept(scan, labels):
        with locked_for_saving(scan.folder):
            write_manual(scan, labels, "", **{key: value for key, value in about.items() if key != "Type"})


def is_kept(scan: Reviewed, labels: np.ndarray[Any, np.dtype[np.uint8]]) -> bool:
    """Return whether the manual files hold these labels `(X, Y, Z)` as `write_manual` writes them."""
    grid: Any = nib.load(scan.path(MASK))
    for file, values in ((MANUAL_MASK, labels > 0), (MANUAL_CLASSES, labels)):
        if not scan.path(file).exists():
            return False
        image: Any = nib.load(scan.path(file))
        if image.shape != grid.shape or image.get_data_dtype() != np.uint8 or not np.array_equal(image.affine, grid.affine):
            return False
        if not np.array_equal(np.asarray(image.dataobj), values):
            return False
    return True


def record_decision(scan: Reviewed) -> None:
    """Store a scan with a manual mask as corrected, unless it is rejected or that is stored already."""
    with locked_for_saving(scan.folder):
        before = read_decisions(scan.folder).get(str(scan.name), Decision())
        sha256, about = sha256_of_files([scan.mask]), read_sidecar(scan.path(MANUAL_SIDECAR))
        if before.status == REJECTED or (before.status, before.mask_sha256) == (CORRECTED, sha256):
            return
        initials = str(about.get("Annotator") or before.initials)
        decision = Decision(CORRECTED, initials, str(about.get("Date") or before.date), before.note, sha256)
        write_decision(scan.folder, str(scan.name), decision)
