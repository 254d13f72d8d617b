"""Write HTML pages for visual checks of masks: one page for the cohort, and one interactive page per scan.

Each page is a single file that loads no other file. A scan's page shows T1 and mask in NiiVue, which is copied from nilearn's
wheel, and lets a person correct the mask (`editor.js`). Without WebGL, and on the cohort page, axial slices chosen by lesion
area are shown. `strokelesion review` serves the same files; only then do they save anything (`reviewing.js`).
"""

import base64
import io
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, Orientation, Spacing
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from PIL import Image

from strokelesion.pipeline.derivatives.group_maps import INCIDENCE_PICTURE, SIDES, VOLUMES_PICTURE
from strokelesion.pipeline.derivatives.page_volumes import MARGIN_MM, as_gray, page_volumes
from strokelesion.pipeline.derivatives.result_names import ScanName
from strokelesion.pipeline.derivatives.scan_images import ScanFolder
from strokelesion.pipeline.lesions.lesion_table import Row, SegmentedScan, lesion_voxels
from strokelesion.pipeline.lesions.measuring import MeasuredScan
from strokelesion.pipeline.pictures import outline, with_mark
from strokelesion.pipeline.runtime.files import write_bytes, write_text
from strokelesion.pipeline.runtime.pages import render_page

CUTS = 6
PICTURE_MM = 1.0
JPEG_QUALITY = 80
# Browsers still scroll a page of this size smoothly; the pictures of 2,000 scans would take three times as much.
COHORT_PICTURES_BYTES = 30e6
# Page and picture of a scan, whose name replaces `*`, and page of all scans.
PAGE, PICTURE, COHORT_PAGE = "pages/*.html", "pages/*.jpg", "index.html"
# Report of a review, which `measure` writes.
REVIEW_STATUS, REVIEW_SIZES, AGREEMENT_PICTURE = "review_status", "review_sizes", "group/corrections.png"
DoneScan = tuple[ScanName, Mapping[str, Any]]


def write_page(scan: MeasuredScan, files: ScanFolder, _: Any) -> None:
    """Write the page of a scan and its picture for the page of all scans."""
    lesions = scan.tables["lesions"]
    shown = scan.image, scan.region, scan.segmented, scan.header
    cuts = write_scan_page(files.path(PAGE), str(files.name), *shown, lesions, scan.warnings)
    write_bytes(files.path(PICTURE), cuts)


def gather_pages(folder: Path, done: Sequence[DoneScan], failed: Mapping[str, str], _: Any) -> None:
    """Write the page of all scans from their names and sidecars, with what `group_maps.py` has written about all of them."""
    shown = []
    for name, sidecar in done:
        page, picture = (file.replace("*", str(name)) for file in (PAGE, PICTURE))
        row = {"mask": "automatic", **sidecar["Tables"]["volumes"][0], "warnings": sidecar["Warnings"]}
        shown.append({"name": str(name), "page": page, "mosaic": folder / picture, **row})
    write_cohort_page(folder / COHORT_PAGE, shown, failed, read_group(folder), read_review(folder))


def write_scan_page(
    path: Path,
    name: str,
    image: MetaTensor,
    brain: torch.Tensor,
    scan: SegmentedScan,
    header: nib.Nifti1Header,
    rows: Sequence[Row],
    warnings: Sequence[str],
) -> bytes:
    """Write the page of one scan and return its mosaic as JPEG.

    Args:
        path: Path of the page.
        name: Name of the scan.
        image: Scan `(1, X, Y, Z)` with its affine.
        brain: Mask of the region to show, `(1, X, Y, Z)`.
        scan: Segmentation of the scan.
        header: Header of its mask file.
        rows: Rows of its lesions, in the order of `lesion_voxels`.
        warnings: Warnings to show.
    """
    gray = as_gray(image, brain)
    shown = displayed(gray, torch.from_numpy(scan.labels)[None], brain)
    cuts = mosaic(shown["image"][0].numpy(), shown["label"][0].numpy(), scan.knows_left)
    page = render_page(
        Path(__file__).with_name("scan_page.html"),
        name=name,
        niivue=niivue(),
        volumes=page_volumes(gray, brain, scan, header, path),
        mosaic=base64.b64encode(cuts).decode(),
        lesions=[
            {**row, "where_mm": nearest_voxel_mm(scan, voxels)}
            for row, voxels in zip(rows, lesion_voxels(scan.labels), strict=True)
        ],
        warnings=warnings,
        knows_left=scan.knows_left,
    )
    write_text(path, page)
    return cuts


def read_group(folder: Path) -> dict[str, Any]:
    """Return pictures in base64 and rows of the table of sides of a folder; empty if the command `group` wrote none."""
    if not (folder / INCIDENCE_PICTURE).exists():
        return {}
    pictures = {"incidence": INCIDENCE_PICTURE, "volumes": VOLUMES_PICTURE}
    sides = pd.read_csv(folder / f"{SIDES}.tsv", sep="\t").round(1).astype(str).replace("nan", "").to_dict("records")
    return {"sides": sides, **{key: base64.b64encode((folder / file).read_bytes()).decode() for key, file in pictures.items()}}


def read_review(folder: Path) -> dict[str, Any]:
    """Return picture in base64 and rows of the tables of a review; empty if there was none."""
    if not (folder / AGREEMENT_PICTURE).exists():
        return {}
    tables = {"status": REVIEW_STATUS, "sizes": REVIEW_SIZES}
    rows = {key: pd.read_csv(folder / f"{table}.tsv", sep="\t").round(1).astype(str) for key, table in tables.items()}
    picture = base64.b64encode((folder / AGREEMENT_PICTURE).read_bytes()).decode()
    return {"agreement": picture, **{key: table.replace("nan", "").to_dict("records") for key, table in rows.items()}}


def write_cohort_page(
    path: Path,
    scans: Sequence[Mapping[str, Any]],
    failed: Mapping[str, str],
    group: Mapping[str, Any] | None = None,
    review: Mapping[str, Any] | None = None,
) -> None:
    """Write the page of all scans; pictures of large cohorts are reduced so that all fit into `COHORT_PICTURES_BYTES`.

    Args:
        path: Path of the page.
        scans: Items with `name`, `page` (relative), `mosaic` (path of a JPEG), `warnings` and the columns of `volumes.tsv`.
        failed: Reasons of failures by path of the scan.
        group: Pictures and rows as `read_group` returns them, if there are any.
        review: Picture and rows as `read_review` returns them, if there are any.
    """
    share = COHORT_PICTURES_BYTES / max(1, sum(scan["mosaic"].stat().st_size for scan in scans))
    # Read one picture at a time: the pictures of 10,000 scans would take a gigabyte.
    shown = [{**scan, "mosaic": as_shown(scan["mosaic"], share)} for scan in scans]
    template = Path(__file__).with_name("cohort_page.html")
    write_text(path, render_page(template, scans=shown, failed=failed, group=group, review=review))


def as_shown(path: Path, share: float) -> str:
    """Return a JPEG file in base64, reduced to this share of its pixels if the share is less than 1."""
    picture = path.read_bytes()
    return base64.b64encode(picture if share >= 1 else shrunk(picture, share)).decode()


def displayed(gray: MetaTensor, label: torch.Tensor, brain: torch.Tensor) -> dict[Any, Any]:
    """Return scan, labels and brain in RAS at 1 mm, cropped to the brain and a margin; bytes, `(1, x, y, z)`."""
    shown: Any = {
        "image": at_picture_grid(gray.as_tensor(), gray.affine, "bilinear"),
        "label": at_picture_grid(label, gray.affine, "nearest"),
        "brain": at_picture_grid(brain.as_subclass(torch.Tensor).to(torch.uint8), gray.affine, "nearest"),
    }
    crop = CropForegroundd(tuple(shown), source_key="brain", margin=round(MARGIN_MM / PICTURE_MM), allow_smaller=True)
    cropped: dict[Any, Any] = crop(shown)
    return cropped


def at_picture_grid(values: torch.Tensor, affine: torch.Tensor, mode: str) -> MetaTensor:
    """Return a volume `(1, X, Y, Z)` in RAS at the voxel size of the pictures, as bytes."""
    steps = [Orientation("RAS", labels=None), Spacing(PICTURE_MM, mode=mode)]
    there: Any = Compose(steps)(MetaTensor(values, affine=affine))
    return MetaTensor(there.as_tensor().round().to(torch.uint8), affine=there.affine)


def mosaic(image: NDArray[np.uint8], label: NDArray[np.uint8], knows_left: bool = True) -> bytes:
    """Return axial slices with outlined lesions as JPEG: anterior is up, the patient's left is on the left.

    Args:
        image: Scan `(X, Y, Z)` in RAS.
        label: Label map on the same grid.
        knows_left: Whether the scan says which side is left; else the mark is `L?`.
    """
    tiles = []
    for level in cut_levels(label):
        gray = np.repeat(np.flipud(image[..., level].T)[..., None], 3, axis=2)
        tiles.append(outline(gray, np.flipud(label[..., level].T)))
    return as_jpeg(with_mark(Image.fromarray(np.concatenate(tiles, axis=1)), knows_left))


def as_jpeg(picture: Image.Image) -> bytes:
    """Return a picture as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def shrunk(jpeg: bytes, share: float) -> bytes:
    """Return a JPEG picture, reduced to this share of its pixels."""
    picture = Image.open(io.BytesIO(jpeg))
    return as_jpeg(picture.resize([max(1, round(edge * share**0.5)) for edge in picture.size], Image.Resampling.LANCZOS))


def cut_levels(label: NDArray[np.uint8], cuts: int = CUTS) -> list[int]:
    """Return the axial slices to show: the slice with most lesion, quantiles of the lesion volume, then even steps."""
    area = (label > 0).sum(axis=(0, 1))
    depth = label.shape[2]
    levels = {int(area.argmax())} if area.any() else set()
    if area.any():
        levels |= {
            int(level) for level in np.searchsorted(area.cumsum() / area.sum(), (np.arange(cuts - 1) + 0.5) / (cuts - 1))
        }
    even = [int(level) for level in np.linspace(0.2, 0.8, cuts) * (depth - 1)]
    levels |= set(
        sorted(even, key=lambda level: -min([abs(level - chosen) for chosen in levels], default=level))[: cuts - len(levels)]
    )
    return sorted(levels)[:cuts]


def nearest_voxel_mm(scan: SegmentedScan, voxels: NDArray[np.intp]) -> list[float]:
    """Return the position of the lesion voxel nearest to the lesion's centroid, in the scan's millimeters."""
    nearest = voxels[np.linalg.norm(voxels - voxels.mean(axis=0), axis=1).argmin()]
    return [round(float(mm), 1) for mm in apply_affine(scan.affine, nearest)]


@cache
def niivue() -> str:
    """Return the source of NiiVue (BSD-2-Clause), which nilearn includes for its own pages."""
    return files("nilearn").joinpath("_assets/js/niivue.umd.js").read_text(encoding="utf-8")
