"""The table beside a release of synthetic scans: what each scan was made of, and what was drawn for it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.validation_scans import SCANS_TABLE, VALIDATION_GENERATOR
from strokelesion.pipeline.runtime.files import write_table
from strokelesion.transforms.shifted import draw_scan_options

SOURCES = ["head", "lesions", "seed", "generator"]
STANDARD = "standard"
LOWEST_BRAIN = "lowest_brain_mm"


def write_scans_table(folder: Path, records: Sequence[Mapping[str, Any]], generator: str = STANDARD) -> None:
    """Write `synthetic_scans.csv`, and keep its rows of scans that are there.

    Scans of the generator `shifted` have columns for everything in `ScanOptions`.

    Raises:
        UserError: The table lists a scan with another head, lesions, seed or generator.
    """
    path = folder / SCANS_TABLE
    rows = pd.DataFrame([describe_scan(record, generator) for record in records])
    if path.exists():
        found = pd.read_csv(path, dtype=str, keep_default_na=False)
        found["generator"] = found.get("generator", STANDARD)
        both = found.merge(rows, on="subject", suffixes=("", "_asked"))
        differs = (both[SOURCES] != both[[f"{name}_asked" for name in SOURCES]].to_numpy()).any(axis=1)
        other = both.loc[differs, "subject"]
        if not other.empty:
            raise UserError(
                f"{path} says that {len(other)} of these scans were made otherwise, {other.iloc[0]} for one; expected the "
                "same heads, masks, seed and generator. Name another --output_dir, or remove this one."
            )
        rows = pd.concat([found, rows[~rows["subject"].isin(found["subject"])]])
    write_table(path, rows.sort_values("subject"))


def describe_scan(record: Mapping[str, Any], generator: str) -> dict[str, str]:
    """Return the row of one scan."""
    masks = " ".join(Path(lesion["path"]).name for lesion in record["lesions"])
    row = {
        "subject": record["subject"],
        "head": record["head"],
        "lesions": masks,
        "seed": record["seed"],
        "generator": generator,
    }
    if generator == VALIDATION_GENERATOR:
        drawn = asdict(draw_scan_options(int(record["seed"])))
        row |= drawn | {"extent_mm": " ".join(f"{edge:g}" for edge in drawn["extent_mm"])}
    return {name: str(value) for name, value in row.items()}


def add_lowest_brain(folder: Path, brains: Mapping[str, Path]) -> None:
    """Write the world z of the lowest brain voxel to the table, where it is missing: whatever lies lower is neck.

    Args:
        folder: Folder of the table.
        brains: Files of brain masks by subject, on grids whose third axis is z.
    """
    path = folder / SCANS_TABLE
    rows = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("subject")
    known = rows.get(LOWEST_BRAIN, pd.Series("", index=rows.index))
    lowest = {subject: f"{lowest_mm(file):g}" for subject, file in brains.items() if not known[subject]}
    rows[LOWEST_BRAIN] = known.replace("", None).fillna(pd.Series(lowest, dtype=str)).fillna("")
    write_table(path, rows.reset_index())


def lowest_mm(brain: Path) -> float:
    """Return the world z of the center of the lowest voxel of a mask."""
    mask = nib.nifti1.Nifti1Image.from_filename(brain)
    lowest = np.flatnonzero(np.asanyarray(mask.dataobj).any(axis=(0, 1)))[0]
    return float(mask.affine[2, 3] + mask.affine[2, 2] * lowest)
