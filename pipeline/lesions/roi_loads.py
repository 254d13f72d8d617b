"""Measure how much of given regions of interest (ROIs) a lesion takes: binary or probabilistic, overlapping, such as tracts.

An atlas of labels (`lesion_table.Atlas`) has one region for each voxel, and its table lists the regions with lesion. ROIs are
one file each, and the table has a row for each of them, so that all scans have the same rows.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from strokelesion.networks import UserError
from strokelesion.pipeline.lesions.lesion_table import Row, SegmentedScan
from strokelesion.pipeline.runtime.errors import format_issue, refuse
from strokelesion.pipeline.runtime.walking import walk
from strokelesion.transforms.geometry import MNI_EXTENT_MM, MNI_FIRST_MM, look_up, voxel_ml
from strokelesion.transforms.headers import find_missing_affine, read_nifti_header
from strokelesion.transforms.reading import load_volume
from strokelesion.transforms.sample_error import source_of

ENDINGS = (".nii.gz", ".nii")
# Probabilities may exceed 1 by rounding.
ROUNDING = 1e-4
# Least share of an ROI inside the grid of MNI152NLin2009aSym.
LEAST_INSIDE = 0.5
_SPACE = re.compile(r"_space-([A-Za-z0-9]+)")
ADVICE = (
    "Expected 3D NIfTI files in millimeters of MNI space, on any grid, with values from 0 to 1: 0 and 1, or probabilities. "
    "Divide masks of 0 and 255 by 255 and percentages by 100, and move other files away."
)


@dataclass(frozen=True)
class Roi:
    """A region of interest in MNI space, as its voxels above 0.

    Attributes:
        name: Name of its file without extension.
        positions_mm: Positions of the voxels in MNI millimeters `(N, 3)`.
        weights: Probability of each voxel, 1 for a binary ROI, `(N,)`.
        voxel_ml: Volume of a voxel.
    """

    name: str
    positions_mm: NDArray[np.floating[Any]]
    weights: NDArray[np.floating[Any]]
    voxel_ml: float

    @property
    def ml(self) -> float:
        """Return the volume in MNI space: the sum of probabilities times the volume of a voxel."""
        return float(self.weights.sum()) * self.voxel_ml


def read_rois(folder: str | Path) -> list[Roi]:
    """Return the ROIs of all NIfTI files below a folder, sorted by name.

    Raises:
        UserError: If there are none, two have one name, or if files are empty, have other values than 0 to 1, or are not in
            MNI space; the message names all of them.
    """
    found = sorted(Path(base) / name for base, _, names in walk(Path(folder)) for name in names if name.endswith(ENDINGS))
    if not found:
        raise UserError(f"found no ROI in {folder}; expected .nii or .nii.gz files, one for each ROI. Check --rois.")
    names = [name_of_roi(path) for path in found]
    twins = [str(path) for path, name in zip(found, names, strict=True) if names.count(name) > 1]
    refuse([format_issue("ROIs share their names with others", twins, "Rename them: tables name an ROI after its file.")])
    volumes = [load_volume(path) for path in found]
    problems = [f"{path}: {problem}" for path, one in zip(found, volumes, strict=True) if (problem := problem_of(one))]
    refuse([format_issue("files cannot be used as ROIs", problems, ADVICE)])
    return [as_roi(name, volume) for name, volume in zip(names, volumes, strict=True)]


def name_of_roi(path: Path) -> str:
    """Return the name of a file without its extension."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def as_roi(name: str, volume: MetaTensor) -> Roi:
    """Return an ROI from its volume `(1, X, Y, Z)`."""
    values, affine = volume.as_tensor()[0].numpy(), volume.affine.numpy()
    voxels = np.argwhere(values > 0)
    weights = values[tuple(voxels.T)].astype(np.float64).clip(max=1)
    return Roi(name, apply_affine(affine, voxels), weights, voxel_ml(affine))


def problem_of(volume: MetaTensor) -> str:
    """Return why a volume `(1, X, Y, Z)` is no ROI in MNI space; "" if it is one."""
    path, values = source_of(volume), volume.as_tensor()
    if missing := find_missing_affine(path, read_nifti_header(path)):
        return missing
    if (space := _SPACE.search(Path(path).name)) and not space[1].startswith("MNI"):
        return f"is in the space {space[1]} by its name"
    if not bool(values.isfinite().all()) or float(values.min()) < 0 or float(values.max()) > 1 + ROUNDING:
        return f"has values from {float(values.min()):g} to {float(values.max()):g}"
    if not bool((values > 0).any()):
        return "is empty"
    roi = as_roi("", volume)
    steps = (roi.positions_mm - MNI_FIRST_MM) / MNI_EXTENT_MM
    inside = float(roi.weights[((steps >= 0) & (steps <= 1)).all(axis=1)].sum() / roi.weights.sum())
    return f"has only {inside:.0%} of its volume inside the grid of MNI space" if inside < LEAST_INSIDE else ""


def roi_rows(scan: SegmentedScan, rois: Sequence[Roi]) -> list[Row]:
    """Return one row for each ROI; nan if the scan is not registered to MNI space or does not say which side is left.

    The label map is looked up, in the nearest voxel, at the position of each ROI voxel. Nothing is interpolated, and an ROI on
    any grid counts with its own voxels.

    Returns:
        `roi`; `roi_ml`, its volume in MNI space; `volume_ml`, the lesion in it, in the scan's space as all volumes of lesions;
        `roi_percent`, the share of the ROI that is lesion. Each voxel of a probabilistic ROI counts with its probability.
    """
    if scan.to_mni is None or not scan.knows_left:
        return [{"roi": roi.name, "roi_ml": roi.ml, "volume_ml": nan, "roi_percent": nan} for roi in rois]
    return [{"roi": roi.name, "roi_ml": roi.ml, **overlap_of(scan, roi)} for roi in rois]


def overlap_of(scan: SegmentedScan, roi: Roi) -> Row:
    """Return the lesion in an ROI, in ml of the scan's space and in percent of the ROI."""
    to_mni = np.asarray(scan.to_mni)
    is_lesion = look_up(scan.labels, scan.affine, apply_affine(np.linalg.inv(to_mni), roi.positions_mm)) > 0
    share = float(roi.weights[is_lesion].sum() / roi.weights.sum())
    return {"volume_ml": share * roi.ml / abs(float(np.linalg.det(to_mni))), "roi_percent": 100 * share}
