"""Make everything that is made of a mask from the mask that a person drew, if there is one; no network is needed.

The automatic mask, its sidecar, probabilities and the brain mask never change. Tables and warnings of the manual mask are in
its own sidecar.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor

from strokelesion.pipeline.derivatives.outputs import OUTPUTS
from strokelesion.pipeline.derivatives.provenance import read_sidecar
from strokelesion.pipeline.derivatives.result_names import (
    CLASSES_MAP,
    MANUAL_CLASSES,
    MANUAL_MASK,
    MASK,
    PROBABILITIES,
    ScanName,
)
from strokelesion.pipeline.derivatives.scan_images import ScanFolder, path_in
from strokelesion.pipeline.lesions.corrections import compare_masks
from strokelesion.pipeline.lesions.measuring import MeasuredScan, measure_drawn
from strokelesion.pipeline.runtime.derived_files import sha256_of_files
from strokelesion.pipeline.runtime.errors import format_issue
from strokelesion.pipeline.runtime.files import write_json
from strokelesion.transforms.drawn_masks import UNKNOWN, complete_classes, read_drawn
from strokelesion.transforms.geometry import match_grid
from strokelesion.transforms.reading import load_volume
from strokelesion.transforms.recipe import fingerprint

MANUAL_SIDECAR = MANUAL_MASK.replace(".nii.gz", ".json")
# Keys of a manual mask's sidecar that hold what was measured.
MEASURED = ("Tables", "Warnings", "Lesions", "MeasuredFrom")
OTHER_START = "the mask was corrected from another automatic mask than the present one"
logger = logging.getLogger(__name__)


def manual_files(folder: Path, name: ScanName) -> list[Path]:
    """Return the manual mask of a scan and the map of its classes, those that are there."""
    return [path for file in (MANUAL_MASK, MANUAL_CLASSES) if (path := path_in(folder, name, file)).exists()]


def read_automatic(folder: Path, name: ScanName, image: MetaTensor) -> torch.Tensor:
    """Return the automatic label map of a scan `(1, X, Y, Z)` on its grid."""
    return match_grid(image, load_volume(path_in(folder, name, CLASSES_MAP))).as_subclass(torch.Tensor).to(torch.uint8)


def read_corrected(files: Sequence[Path], image: MetaTensor, automatic: torch.Tensor) -> torch.Tensor:
    """Return a corrected mask as labels `(1, X, Y, Z)` on the grid of its scan: 1 main, 2 sub, see `complete_classes`.

    Args:
        files: Mask, which says which voxels are lesion, and maybe a map of their classes.
        image: Scan `(1, X, Y, Z)` with its affine.
        automatic: Automatic label map, see `read_automatic`.
    """
    labels, *classes = (read_drawn(file, image).as_subclass(torch.Tensor) for file in files)
    for known in classes:
        labels = torch.where((labels == UNKNOWN) & (known > 0), known, labels)
    return complete_classes(labels, automatic)


def write_record(
    folder: Path,
    name: ScanName,
    item: Mapping[str, Any],
    image: MetaTensor,
    known: Mapping[str, Any],
    wanted: Mapping[str, Any],
) -> MeasuredScan:
    """Write the files of a scan that are made of its mask again, from its manual mask; write the sidecar of that mask last.

    Args:
        folder: Folder of the results.
        name: Name of the scan.
        item: Scan as listed.
        image: Scan `(1, X, Y, Z)` with its affine.
        known: Sidecar of the automatic mask.
        wanted: Outputs that are wanted, as `find_wanted` returns them.
    """
    path = path_in(folder, name, MANUAL_SIDECAR)
    about = read_about(path, known)
    write_json(path, about)
    state = state_of(folder, name, known)  # now: somebody may save another mask meanwhile
    automatic = read_automatic(folder, name, image)
    labels = read_corrected(manual_files(folder, name), image, automatic)
    likely = path_in(folder, name, PROBABILITIES)
    probability = match_grid(image, load_volume(likely)).as_tensor()[0].numpy() if likely.exists() else None
    scan = measure_drawn(item, image, labels, known, probability)
    lesions = add_correction(scan, automatic, path_in(folder, name, MASK), about)
    sources = [*known["Sources"], f"bids::{name.path(MANUAL_MASK).as_posix()}"]
    files = ScanFolder(folder, name, sources, wanted, is_manual=True)
    for output in OUTPUTS:
        if output.name in wanted and output.write is not None and output.of_mask:
            output.write(scan, files, wanted[output.name])
    measured = {"Tables": scan.stored_tables, "Warnings": scan.warnings, "Lesions": lesions}
    write_json(path, {**read_about(path, known), **measured, "MeasuredFrom": state})
    return scan


def read_about(path: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sidecar of a manual mask without what was measured; a mask of another program has none yet."""
    about = {"Type": "Lesion", "Manual": True, "Sources": known["Sources"], **read_sidecar(path)}
    return {key: value for key, value in about.items() if key not in MEASURED}


def add_correction(scan: MeasuredScan, automatic: torch.Tensor, mask: Path, about: Mapping[str, Any]) -> dict[str, list[float]]:
    """Add the row of `corrections.tsv` to the tables of a scan, and return volumes of lesions as `compare_masks` does.

    Args:
        scan: Scan, measured with its manual mask.
        automatic: Automatic label map `(1, X, Y, Z)`.
        mask: File of the automatic mask.
        about: Sidecar of the manual mask.
    """
    row, lesions = compare_masks(automatic[0].numpy() > 0, scan.segmented.labels > 0, scan.segmented.voxel_ml)
    who = {"initials": about.get("Annotator") or None, "date": about.get("Date")}
    scan.tables["corrections"] = [{**row, **who}]
    if about.get("AutomaticSHA256") not in (None, sha256_of_files([mask])):
        scan.warnings.append(OTHER_START)
    return lesions


def state_of(folder: Path, name: ScanName, known: Mapping[str, Any]) -> str:
    """Return the fingerprint of what the measures of a manual mask depend on: its files, and the automatic result."""
    return fingerprint([sha256_of_files(manual_files(folder, name)), known])


def is_measured(folder: Path, name: ScanName, known: Mapping[str, Any]) -> bool:
    """Return whether a manual mask was measured since it and the automatic result last changed."""
    return bool(read_sidecar(path_in(folder, name, MANUAL_SIDECAR)).get("MeasuredFrom") == state_of(folder, name, known))


def of_record(folder: Path, name: ScanName, known: dict[str, Any]) -> dict[str, Any]:
    """Return the sidecar of a scan with tables and warnings of its manual mask, if there is one that was measured."""
    if not path_in(folder, name, MANUAL_MASK).exists():
        return known
    manual = read_sidecar(path_in(folder, name, MANUAL_SIDECAR))
    return {**known, **{key: manual[key] for key in ("Manual", *MEASURED) if key in manual}} if "Tables" in manual else known


def warn_of_unmeasured(folder: Path, scans: Iterable[tuple[ScanName, Mapping[str, Any]]]) -> None:
    """Log which manual masks were not measured, or have changed since; `scans` are names and automatic sidecars."""
    manual = [(name, known) for name, known in scans if path_in(folder, name, MANUAL_MASK).exists()]
    waiting = [str(name) for name, known in manual if not is_measured(folder, name, known)]
    if waiting:
        advice = f"Measure them: strokelesion measure {folder}"
        logger.warning("%s", format_issue("manual masks are not in the tables as they are now", waiting, advice))
