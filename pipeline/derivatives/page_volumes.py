"""Prepare the volumes of a scan's page on the scan's own grid: a mask corrected there fits the scan voxel by voxel.

To keep the page small, only the box around brain and lesions is in it; voxels outside the box stay as they are.
"""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from strokelesion.pipeline.derivatives.scan_images import as_image
from strokelesion.pipeline.lesions.lesion_table import SegmentedScan
from strokelesion.transforms.intensity import percentile

MARGIN_MM = 15
BRIGHTEST_PERCENTILE = 99.5
# 64 shades are enough: with more, invisible noise would double the size of the page.
SHADES, PERCENTS = 64, 100
COMPRESSION = 6  # higher levels save about 1 % of the size but double the time
# Volumes in a page, see `scan_page.html`.
_FILES = re.compile(r"^const files = (\{.*\});$", re.MULTILINE)
HEADER_BYTES = 352  # of a NIfTI file without extensions


def page_volumes(
    gray: MetaTensor, brain: torch.Tensor, scan: SegmentedScan, header: nib.Nifti1Header, page: Path | None = None
) -> dict[str, Any]:
    """Return what the page needs to show and edit a mask on the scan's own grid.

    Args:
        gray: Scan in shades of gray `(1, X, Y, Z)`, see `as_gray`.
        brain: Mask of the region to show, `(1, X, Y, Z)`.
        scan: Segmentation of the scan.
        header: Header of the scan's mask file.
        page: Earlier page of the scan, from which the probability is taken if the segmentation has none.

    Returns:
        `image` (shades of gray), `label` and `percent` (probability), NIfTI files of the box in base64; `start` and `shape`,
        first voxel of the box and shape of the whole grid; `header`, the start of the mask file in base64.
    """
    region = (brain.as_subclass(torch.Tensor)[0].numpy() > 0) | (scan.labels > 0)
    box = box_around(region, voxel_sizes(scan.affine))
    start = [side.start for side in box]
    likely = None if scan.probability is None else (scan.probability[box] * PERCENTS).round().clip(0, PERCENTS)
    percent = kept_percent(page, scan.labels.shape)[box] if likely is None else likely
    affine = scan.affine @ nib.affines.from_matvec(np.eye(3), start)
    volumes = {"image": gray.as_subclass(torch.Tensor)[0].numpy()[box], "label": scan.labels[box], "percent": percent}
    files = {name: as_base64(volume.astype(np.uint8), affine) for name, volume in volumes.items()}
    whole = as_image(torch.zeros(scan.labels.shape, dtype=torch.uint8), header).to_bytes()[:HEADER_BYTES]
    return {**files, "start": start, "shape": list(scan.labels.shape), "header": base64.b64encode(whole).decode()}


def kept_percent(page: Path | None, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the probability `(X, Y, Z)` in percent in an earlier page of a scan; 0 outside its box, and without it."""
    percent = np.zeros(shape, np.uint8)
    found = _FILES.search(page.read_text(encoding="utf-8")) if page is not None and page.is_file() else None
    if found and tuple((files := json.loads(found[1])).get("shape", ())) == shape:  # pages of earlier versions have none
        image: Any = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(files["percent"])))
        box = zip(files["start"], image.shape, strict=True)
        percent[tuple(slice(start, start + size) for start, size in box)] = np.asarray(image.dataobj)
    return percent


def as_gray(image: MetaTensor, brain: torch.Tensor) -> MetaTensor:
    """Return a scan in shades of gray from 0 to 252; the brightest voxels of the brain are white."""
    brightest = percentile(image.as_tensor()[brain.as_subclass(torch.Tensor) > 0], BRIGHTEST_PERCENTILE)
    shade = (image.as_tensor() * ((SHADES - 1) / max(brightest, 1e-6))).round_().clamp_(0, SHADES - 1)
    return MetaTensor(shade.mul_(256 // SHADES), affine=image.affine)


def box_around(region: NDArray[np.bool_], voxel_mm: NDArray[np.floating]) -> tuple[slice, ...]:
    """Return the box of a region `(X, Y, Z)`, which must not be empty, and of a margin."""
    margin = np.ceil(MARGIN_MM / voxel_mm).astype(int)
    inside = np.argwhere(region)
    first, end = (inside.min(axis=0) - margin).clip(0), np.minimum(inside.max(axis=0) + 1 + margin, region.shape)
    return tuple(slice(int(low), int(high)) for low, high in zip(first, end, strict=True))


def as_base64(volume: NDArray[np.uint8], affine: NDArray[np.floating]) -> str:
    """Return a volume `(x, y, z)` of bytes as a compressed NIfTI file in base64."""
    image = nib.Nifti1Image(volume, affine)
    return base64.b64encode(gzip.compress(image.to_bytes(), compresslevel=COMPRESSION, mtime=0)).decode()
