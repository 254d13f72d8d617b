"""Summarize the lesions of many scans: in how many there is a lesion at each place of MNI space, on which side, how large.

tpl-MNI152NLin2009aSym/tpl-MNI152NLin2009aSym_res-1_desc-lesioncount_dseg.nii.gz   number of scans with lesion
tpl-MNI152NLin2009aSym/tpl-MNI152NLin2009aSym_res-1_label-lesion_desc-incidence_probseg.nii.gz   their share, from 0 to 1
group_sides.tsv                                                                     scans and volume by side
group/incidence.png, group/volumes.png                                              pictures of the page of all scans
"""

import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from nilearn.datasets import load_mni152_template
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.result_names import MASK, ScanName, in_space
from strokelesion.pipeline.derivatives.scan_images import with_sidecar
from strokelesion.pipeline.derivatives.table_columns import TABLES, write_with_dictionary
from strokelesion.pipeline.pictures import with_mark
from strokelesion.pipeline.runtime.files import write_bytes, write_json, write_nifti
from strokelesion.transforms.geometry import MNI_SPACE, grid_of
from strokelesion.transforms.headers import MNI, mask_header
from strokelesion.transforms.masks import binarize_mask
from strokelesion.transforms.reading import load_volume

PREFIX = f"tpl-{MNI_SPACE}/tpl-{MNI_SPACE}_res-1"
COUNT, SHARE = f"{PREFIX}_desc-lesioncount_dseg.nii.gz", f"{PREFIX}_label-lesion_desc-incidence_probseg.nii.gz"
INCIDENCE_PICTURE, VOLUMES_PICTURE = "group/incidence.png", "group/volumes.png"
SIDES = "group_sides"
SHARED = {
    COUNT: ("number of scans with lesion in each voxel", "look where data are sparse"),
    SHARE: ("share of the scans with lesion in each voxel", "show the group"),
    f"{SIDES}.tsv": (TABLES[SIDES].text, TABLES[SIDES].use),
    INCIDENCE_PICTURE: ("axial slices of the template with the number of scans", "show the group"),
    VOLUMES_PICTURE: ("histogram of lesion volumes", "show the group"),
}
# A scan is bilateral if the smaller side has at least this share of its lesion volume; a lesion may cross the middle plane.
BILATERAL_SHARE = 0.05
# Columns of `volumes.tsv` that are summarized.
COUNTED = ("left_ml", "right_ml", "total_ml")
# Axial slices of the mosaic: first, last and step in MNI mm; its rows and columns follow.
LEVELS_MM, COLUMNS = range(-40, 76, 8), 5
VOLUMES_ML = np.geomspace(0.1, 400, 13)
logger = logging.getLogger(__name__)


class Incidence(NamedTuple):
    """Number of scans with lesion in each voxel `(X, Y, Z)` of the grid of MNI space at 1 mm, and number of all scans."""

    number: NDArray[np.uint16]
    scans: int

    @property
    def share(self) -> NDArray[np.float32]:
        """Return the share of scans with lesion in each voxel, from 0 to 1."""
        return (self.number / max(self.scans, 1)).astype(np.float32)


def count_lesions(masks: Iterable[str | Path]) -> Incidence:
    """Return the incidence of lesions; masks are read one by one, so that memory does not grow with their number.

    Args:
        masks: Files of lesion masks in MNI space at 1 mm, as `inference` writes them; a mask may be empty.

    Raises:
        UserError: If there is none, or one is on another grid.
    """
    affine, size = grid_of(MNI_SPACE)
    count, scans = np.zeros(size, np.uint16), 0
    for path in masks:
        mask = load_volume(path)
        if list(mask.shape[1:]) != size or not torch.allclose(mask.affine, affine, atol=1e-3):
            raise UserError(f"{path} has another grid; expected that of {MNI_SPACE} at 1 mm. Write it with --mni 2009a.")
        count += binarize_mask(mask, allow_empty=True)[0].numpy()
        scans += 1
    if not scans:
        raise UserError(f"found no lesion mask in {MNI_SPACE}; expected some. Run inference with --mni 2009a.")
    return Incidence(count, scans)


def write_incidence(folder: Path, incidence: Incidence) -> None:
    """Write the maps of number and share with their sidecars."""
    about = {"Resolution": "1 mm", "NumberOfScans": incidence.scans}
    described: dict[str, tuple[NDArray[Any], str]] = {
        COUNT: (incidence.number, "Number of scans with a lesion in the voxel"),
        SHARE: (incidence.share, "Share of the scans with a lesion in the voxel, from 0 to 1"),
    }
    header = mask_header(None, grid_of(MNI_SPACE)[0].numpy(), MNI)
    for file, (values, words) in described.items():
        write_nifti(folder / file, nib.Nifti1Image(values, header.get_best_affine(), header, dtype=values.dtype))
        write_json(folder / file.replace(".nii.gz", ".json"), {**about, "Description": words})


def side_of(left_ml: float, right_ml: float) -> str:
    """Return the side of a scan's lesions: left, right, bilateral, none or unknown; see `BILATERAL_SHARE`."""
    if np.isnan(left_ml) or np.isnan(right_ml):
        return "unknown"
    if left_ml + right_ml == 0:
        return "none"
    if min(left_ml, right_ml) >= BILATERAL_SHARE * (left_ml + right_ml):
        return "bilateral"
    return "left" if left_ml > right_ml else "right"


def side_rows(volumes: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row for each side: `side`, `scans`, and mean and median lesion volume of these scans in ml.

    Args:
        volumes: Table of scans with `left_ml`, `right_ml` and `total_ml`, such as `volumes.tsv`.
    """
    of_scans = np.array([side_of(left, right) for left, right in zip(volumes["left_ml"], volumes["right_ml"], strict=True)])
    known = {side: volumes["total_ml"][of_scans == side] for side in TABLES[SIDES].columns["side"].levels}
    return [
        {"side": side, "scans": len(total_ml), "mean_ml": total_ml.mean(), "median_ml": total_ml.dropna().median()}
        for side, total_ml in known.items()
    ]


def gather_group(folder: Path, done: Sequence[tuple[ScanName, Mapping[str, Any]]], _: Mapping[str, str], __: Any) -> None:
    """Write maps, table of sides and pictures of the scans that are done and assessed; log how many have no mask in MNI space.

    Args:
        folder: Folder of the results.
        done: Names and sidecars of the scans that are done.
    """
    volumes = pd.DataFrame([sidecar["Tables"]["volumes"][0] for _, sidecar in done], columns=[*COUNTED]).astype(float)
    assessed = [name for (name, _), total_ml in zip(done, volumes["total_ml"], strict=True) if not np.isnan(total_ml)]
    masks = [path for name in assessed if (path := folder / name.path(in_space(MNI_SPACE, MASK))).exists()]
    if len(masks) < len(done):
        logger.warning(
            "%d of %d scans are not in the maps of the group: not assessed, or no mask in %s, see --mni 2009a.",
            *(len(done) - len(masks), len(done), MNI_SPACE),
        )
    if not masks:
        for file in (file for shared in SHARED for file in with_sidecar(shared)):
            (folder / file).unlink(missing_ok=True)
        return
    incidence = count_lesions(masks)
    write_incidence(folder, incidence)
    write_with_dictionary(folder, SIDES, side_rows(volumes))
    write_bytes(folder / INCIDENCE_PICTURE, draw_incidence(incidence))
    write_bytes(folder / VOLUMES_PICTURE, draw_volumes(volumes["total_ml"]))


def draw_incidence(incidence: Incidence) -> bytes:
    """Return axial slices of the MNI template with the number of scans in color as PNG, anterior up, left on the left."""
    most = int(incidence.number.max())
    template: Any = load_mni152_template(resolution=1)
    gray = np.asarray(template.dataobj, dtype=np.float32)
    rows = [level - int(template.affine[2, 3]) for level in LEVELS_MM]
    tiles = [draw_slice(gray[..., row], incidence.number[..., row], most) for row in rows]
    lines = [np.concatenate(tiles[start : start + COLUMNS], axis=1) for start in range(0, len(tiles), COLUMNS)]
    picture = with_mark(Image.fromarray(np.concatenate(lines)))
    legend = f"Lesion in the voxel: {'red 1, ' if most > 1 else ''}yellow {most} of {incidence.scans} scans"
    ImageDraw.Draw(picture).text((3, 3), legend, fill=(255, 255, 255), font_size=14)
    return as_png(picture)


def draw_slice(gray: NDArray[np.float32], count: NDArray[np.uint16], most: int) -> NDArray[np.uint8]:
    """Return a slice `(H, W, 3)`: the template in gray, and red to yellow for one scan to the most scans."""
    picture = np.repeat((gray / max(float(gray.max()), 1e-6) * 200)[..., None], 3, axis=2)
    heat = np.stack([np.full(count.shape, 255.0), 255 * count / max(most, 1), np.zeros(count.shape)], axis=-1)
    drawn = np.where((count > 0)[..., None], 0.3 * picture + 0.7 * heat, picture)
    return np.flipud(drawn.transpose(1, 0, 2)).clip(0, 255).astype(np.uint8)


def draw_volumes(total_ml: "pd.Series[float]") -> bytes:
    """Return a histogram of lesion volumes in ml on a logarithmic axis as PNG; its title counts those without lesion."""
    known = total_ml.dropna()
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.hist(known[known > 0].clip(VOLUMES_ML[0], VOLUMES_ML[-1]), bins=VOLUMES_ML.tolist(), color="#b03a2e")
    axes.set(xscale="log", xlabel="lesion volume (ml)", ylabel="scans")
    axes.set_title(f"{len(known)} scans, {int((known == 0).sum())} without lesion")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def as_png(picture: Image.Image) -> bytes:
    """Return a picture as the content of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
