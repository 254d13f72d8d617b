"""Measure a scan's lesions: one row per lesion, one row per scan, and on request one row per region of an atlas.

Volumes are measured in the scan's own space. Positions are in millimeters of MNI152NLin2009aSym, to which the scan's brain was
registered. They are missing if the registration failed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import nan
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine
from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from strokelesion.networks import UserError
from strokelesion.pipeline.lesions.uncertainty import estimate_uncertainty
from strokelesion.transforms.components import components
from strokelesion.transforms.geometry import look_up, voxel_ml

CLASSES = ("main", "sub")
SIDES = ("left", "right")
# A voxel is fluid if the template's probabilities of gray and white matter sum to less than this.
LEAST_TISSUE = 0.5
Affine = NDArray[np.floating]
Row = dict[str, Any]


@dataclass(frozen=True)
class SegmentedScan:
    """The segmentation of one scan on its own grid, from which all numbers are computed.

    Attributes:
        labels: Label map: 0 background, 1 main lesion, 2 sub-lesion, `(X, Y, Z)`.
        probability: Probability of either lesion class, `(X, Y, Z)`.
        brain_ml: Volume of the brain, lesions included; nan without a brain mask.
        affine: Affine from voxels to the scan's millimeters, RAS.
        to_mni: Affine from the scan's millimeters to MNI millimeters; None if unknown.
        knows_left: Whether the scan's header says which side is left. If not, there are no sides and no x in the tables.
    """

    labels: NDArray[np.uint8]
    probability: NDArray[np.floating]
    brain_ml: float
    affine: Affine
    to_mni: Affine | None
    knows_left: bool = True

    @property
    def voxel_ml(self) -> float:
        """Return the volume of a voxel."""
        return voxel_ml(self.affine)

    def mni_mm(self, voxels: NDArray[Any]) -> NDArray[np.floating]:
        """Return the positions of voxels `(N, 3)` in MNI space; nan if they are unknown."""
        if self.to_mni is None:
            return np.full((len(voxels), 3), nan)
        positions: NDArray[np.floating] = apply_affine(self.to_mni @ self.affine, voxels)
        return positions


def lesion_rows(scan: SegmentedScan) -> list[Row]:
    """Return one row per lesion, the largest first.

    Returns:
        `lesion` (number), `class`, `volume_ml`, `brain_percent`, `mean_probability`, `hemisphere` (of the centroid),
        `centroid_x_mm` to `peak_z_mm` (peak: the most probable voxel), `gray_percent` and `white_percent` (shares of the
        lesion, by the more probable tissue of the template).
    """
    lesions = lesion_voxels(scan.labels)
    return [{"lesion": number, **lesion_row(scan, voxels)} for number, voxels in enumerate(lesions, start=1)]


def lesion_voxels(labels: NDArray[np.uint8]) -> list[NDArray[np.intp]]:
    """Return the voxels `(N, 3)` of each 26-connected lesion of a label map `(X, Y, Z)`, the largest lesion first."""
    numbers, _ = components(labels > 0)
    boxes = enumerate(find_objects(numbers), start=1)
    found = [np.argwhere(numbers[box] == number) + [side.start for side in box] for number, box in boxes]
    return sorted(found, key=lambda voxels: (-len(voxels), voxels[0].tolist()))


def lesion_row(scan: SegmentedScan, voxels: NDArray[np.intp]) -> Row:
    """Return the measurements of one lesion from its voxels `(N, 3)`."""
    index = tuple(voxels.T)
    probability = scan.probability[index]
    positions = scan.mni_mm(voxels)
    known = [1.0 if scan.knows_left else nan, 1.0, 1.0]
    centroid, peak = positions.mean(axis=0) * known, positions[probability.argmax()] * known
    volume_ml = len(voxels) * scan.voxel_ml
    return {
        "class": CLASSES[int(scan.labels[index][0]) - 1],  # of the whole lesion, see `DecideLesionsd`
        "volume_ml": volume_ml,
        "brain_percent": 100 * volume_ml / scan.brain_ml,
        "mean_probability": float(probability.mean()),
        "hemisphere": None if np.isnan(centroid[0]) else SIDES[int(centroid[0] > 0)],
        **{f"centroid_{axis}_mm": float(mm) for axis, mm in zip("xyz", centroid, strict=True)},
        **{f"peak_{axis}_mm": float(mm) for axis, mm in zip("xyz", peak, strict=True)},
        **{f"{tissue}_percent": 100 * share_in(mask, positions) for tissue, mask in tissue_masks().items()},
    }


def scan_row(scan: SegmentedScan) -> Row:
    """Return one row: `lesions` (count), `total_ml`, `main_ml`, `sub_ml`, `left_ml`, `right_ml`, `brain_ml`, `uncertainty`."""
    voxels = np.argwhere(scan.labels > 0)
    labels, x_mm = scan.labels[tuple(voxels.T)], scan.mni_mm(voxels)[:, 0]
    known = scan.to_mni is not None and scan.knows_left
    return {
        "lesions": len(lesion_voxels(scan.labels)),
        "total_ml": len(voxels) * scan.voxel_ml,
        "main_ml": int((labels == 1).sum()) * scan.voxel_ml,
        "sub_ml": int((labels == 2).sum()) * scan.voxel_ml,
        "left_ml": int((x_mm <= 0).sum()) * scan.voxel_ml if known else nan,
        "right_ml": int((x_mm > 0).sum()) * scan.voxel_ml if known else nan,
        "brain_ml": scan.brain_ml,
        "uncertainty": estimate_uncertainty(scan.labels > 0, scan.probability),
    }


@dataclass(frozen=True)
class Atlas:
    """Regions in MNI space.

    Attributes:
        labels: Region number of each voxel `(X, Y, Z)`, 0 outside.
        affine: Affine from voxels to MNI millimeters.
        names: Names of the regions by number.
    """

    labels: NDArray[np.integer[Any]]
    affine: Affine
    names: Mapping[int, str]


def read_atlas(path: str | Path, labels: str | Path) -> Atlas:
    """Read a label atlas in MNI space.

    Args:
        path: NIfTI file of region numbers.
        labels: TSV or CSV file with the columns `index` and `name`, as BIDS defines it for `_dseg` files.

    Raises:
        UserError: when the image is not a label map, or the table lacks a column.
    """
    image: Any = nib.load(path)
    values = np.asarray(image.dataobj)
    if values.ndim != 3 or not np.array_equal(values, np.round(values)):
        raise UserError(f"{path} has the shape {values.shape} or numbers that are not whole; expected one 3D map of labels.")
    table = pd.read_csv(labels, sep="\t" if str(labels).endswith(".tsv") else ",")
    if missing := {"index", "name"} - set(table.columns):
        raise UserError(f"{labels} has no column {' and no '.join(sorted(missing))}; expected index and name.")
    return Atlas(
        values.astype(np.int64), image.affine, dict(zip(table["index"].astype(int), table["name"].astype(str), strict=True))
    )


def region_rows(scan: SegmentedScan, atlas: Atlas) -> list[Row]:
    """Return one row for each region that contains lesion, in the atlas's order.

    Returns:
        `region`, `volume_ml` (lesion in the region, in the scan's space) and `region_percent` (lesion share of the region, in
        MNI space).
    """
    if scan.to_mni is None or not scan.knows_left:  # regions have sides
        return []
    inside = look_up(atlas.labels, atlas.affine, scan.mni_mm(np.argwhere(scan.labels > 0)))
    mni_voxels = scan.voxel_ml * float(np.linalg.det(scan.to_mni)) / voxel_ml(atlas.affine)
    sizes = dict(zip(*np.unique(atlas.labels, return_counts=True), strict=True))
    return [
        {
            "region": name,
            "volume_ml": (count := int((inside == number).sum())) * scan.voxel_ml,
            "region_percent": min(100.0, 100 * count * mni_voxels / sizes[number]),
        }
        for number, name in atlas.names.items()
        if (inside == number).any()
    ]


@cache
def tissue_masks() -> Mapping[str, tuple[NDArray[np.bool_], Affine]]:
    """Return the masks of the MNI template where gray or white matter is the more probable tissue, with their affines."""
    gray, white = load_mni152_gm_template(resolution=1), load_mni152_wm_template(resolution=1)
    of_gray, of_white = np.asarray(gray.dataobj), np.asarray(white.dataobj)
    is_tissue = of_gray + of_white > LEAST_TISSUE
    return {"gray": (is_tissue & (of_gray >= of_white), gray.affine), "white": (is_tissue & (of_white > of_gray), white.affine)}


def share_in(mask: tuple[NDArray[np.bool_], Affine], positions_mm: NDArray[np.floating]) -> float:
    """Return the share of positions `(N, 3)` that lie in a mask; nan if positions are unknown."""
    return nan if np.isnan(positions_mm).any() else float(look_up(*mask, positions_mm).mean())
