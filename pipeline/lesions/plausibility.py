"""Judge whether a segmented scan was a T1 of a whole head: a scan that was not understood must not read like a healthy brain.

A label map and a CT are refused. Everything else that is unlikely in a T1 is a doubt, which becomes a warning; with a doubt, no
lesion is not reported as 0 ml but as not assessed. `acquisition.py` judges names and metadata.

The thresholds are between what was measured on T1 scans (three real heads, synthetic ones, thick slices) and on other images of
such heads. They are given with each threshold as T1 | others.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from nibabel.affines import apply_affine
from nilearn.datasets import load_mni152_brain_mask, load_mni152_gm_template, load_mni152_wm_template
from numpy.typing import NDArray

from strokelesion.networks import UserError
from strokelesion.pipeline.finding.acquisition import doubts_of_metadata, doubts_of_name, objection_to_file, sidecar_of
from strokelesion.pipeline.finding.candidates import MASK_WORDS, MOST_LABELS, is_t1w, words_of
from strokelesion.pipeline.lesions.lesion_table import SegmentedScan
from strokelesion.transforms.conversion import DicomImage
from strokelesion.transforms.geometry import look_up, voxel_ml
from strokelesion.transforms.headers import find_missing_affine, find_two_affines, read_nifti_header

NOT_ASSESSED = "not assessed"
# Share of neighbors with equal values, the most frequent value left out: 0.05 to 0.28 | label maps 0.83 and more.
MOST_EQUAL = 0.6
SAMPLE = 100_000
# Heads have more voxels even at 4 mm; the values of a smaller image say too little.
LEAST_SIZE = 60_000
# CT in Hounsfield units: air is at -1000, soft tissue near 0, bone above 300. Some converters add 1024.
CT_OFFSETS = (0.0, 1024.0)
CT_AIR_HU, CT_SOFT_HU, CT_BONE_HU = (-1100.0, -850.0), (-150.0, 150.0), 300.0
# Air outside the head and bone of it are at least this share; soft tissue is most of the head. A T1 has no such narrow peak.
LEAST_AIR, LEAST_SOFT, LEAST_BONE = 0.1, 0.6, 0.01
# Brains of adults have 1,000 to 1,700 ml, of infants 600 ml. Other masks are no whole brain, or more.
BRAIN_ML = (600.0, 2200.0)
# Brightness of gray relative to white matter, at positions of the template: 0.63 to 0.79 | CT 1.00, FLAIR 1.07, T2 above 1.
MOST_GRAY = 0.95
# A voxel belongs to a tissue if the template's probability is at least this.
SURE = 0.85
# Fewer voxels of a tissue say nothing.
LEAST_VOXELS = 50
# Brightness of fluid relative to white matter, at positions of the template: 0.3 to 0.7 | CT 0.98, T2 above 2.
MOST_FLUID = 1.1
# Without registration: Kelly's skewness of the brain, (p98 - 2 p50 + p2) / (p98 - p2): -0.8 to 0.0 | T2 and inverted T1 0.6.
MOST_SKEWED = 0.5
# Spread of the brain, (p98 - p2) / (p50 - air): above 0.5 | CT and water 0.05.
LEAST_SPREAD = 0.15
# Difference of neighbors in the corners of the image, divided by p50 - air: up to 0.05 | noise of a uniform image 0.3 and more.
MOST_NOISE = 0.2
CORNER_SHARE = 0.1
# More voxels that are darker than air by more than p50 - air are no ringing.
MOST_DARK = 10

Values = NDArray[np.float32]


def refuse_other_images(image: MetaTensor) -> None:
    """Raise UserError if a scan `(1, X, Y, Z)` is a label map or a CT by its values."""
    values: Values = image.as_tensor()[0].numpy()
    if values.size < LEAST_SIZE:
        return
    sample = np.unique(values.reshape(-1)[:: max(1, values.size // SAMPLE)])
    if len(sample) <= MOST_LABELS and (count := len(np.unique(values))) <= MOST_LABELS:
        raise UserError(f"it has {count} distinct values: a mask or label map, not a T1 scan. Give the scan itself")
    if equal_share(values) > MOST_EQUAL:
        raise UserError("most of its voxels are equal to their neighbors: a label map, not a T1 scan. Give the scan itself")
    if is_ct(values):
        raise UserError("its values are Hounsfield units: a CT, not a T1 scan. Give a T1-weighted MRI")


def equal_share(values: Values) -> float:
    """Return the share of neighbors with equal values along the first axis, both other than the most frequent value."""
    sample, counts = np.unique(values.reshape(-1)[:: max(1, values.size // SAMPLE)], return_counts=True)
    first, second = values[:-1], values[1:]
    counted = (first != (background := sample[counts.argmax()])) & (second != background)
    return float((first == second)[counted].mean()) if counted.any() else 0.0


def is_ct(values: Values) -> bool:
    """Return whether values are Hounsfield units of a head, possibly with 1024 added."""
    for offset in CT_OFFSETS:
        air = (values >= CT_AIR_HU[0] + offset) & (values <= CT_AIR_HU[1] + offset)
        if air.mean() < LEAST_AIR:
            continue
        head = values[values > CT_AIR_HU[1] + offset] - offset
        soft, bone = (head > CT_SOFT_HU[0]) & (head < CT_SOFT_HU[1]), head > CT_BONE_HU
        if head.size and soft.mean() > LEAST_SOFT and bone.mean() > LEAST_BONE:
            return True
    return False


def doubts_of_item(item: Mapping[str, Any]) -> list[str]:
    """Return why a scan may be no T1 by its name and metadata."""
    image = item["image"]
    if isinstance(image, DicomImage):
        return doubts_of_metadata(image.sidecar)
    path = Path(image)
    doubts = [*filter(None, [objection_to_file(path)]), *doubts_of_metadata(sidecar_of(path)), *doubts_of_name(path.name)]
    if words_of(path) & MASK_WORDS and not is_t1w(path):
        doubts.append("it is named like a mask, but its values are those of a scan")
    return doubts


def doubts_of_image(image: MetaTensor, brain: NDArray[np.bool_], scan: SegmentedScan) -> list[str]:
    """Return why a scan may be no T1 of a whole brain by the image itself.

    Args:
        image: Scan `(1, X, Y, Z)`.
        brain: Brain mask `(X, Y, Z)`.
        scan: Its segmentation; lesions are left out.
    """
    values: Values = image.as_tensor()[0].numpy()
    healthy = brain & (scan.labels == 0)
    brain_ml = float(brain.sum()) * voxel_ml(scan.affine)
    doubts = []
    if not BRAIN_ML[0] <= brain_ml <= BRAIN_ML[1]:
        doubts.append(f"the brain mask has {brain_ml:.0f} ml; whole brains have {BRAIN_ML[0]:.0f} to {BRAIN_ML[1]:.0f}")
    if healthy.sum() < LEAST_VOXELS:
        return doubts
    air = float(np.percentile(values, 10))
    low, middle, high = np.percentile(values[healthy], (2, 50, 98)) - air
    gray, fluid = brightness_of_tissues(values, air, healthy, scan)
    if corner_noise(values) > MOST_NOISE * abs(middle):
        doubts.append("the corners hold noise as strong as the brain, like an MP2RAGE (UNI) that was not denoised")
    if (dark := int((values < air - abs(middle)).sum())) > MOST_DARK:
        doubts.append(f"{dark} voxels are far darker than air, as after an overflow of 16-bit numbers")
    if high - low < LEAST_SPREAD * abs(middle):
        doubts.append("the tissues of the brain have about the same brightness, unlike in T1")
    if gray > MOST_GRAY:
        doubts.append(f"gray matter is {gray:.2f} times as bright as white matter; in T1 it is darker")
    if fluid > MOST_FLUID or (scan.to_mni is None and low + high - 2 * middle > MOST_SKEWED * (high - low)):
        doubts.append("fluid seems to be brighter than tissue, as in T2")
    return doubts


def corner_noise(values: Values) -> float:
    """Return the median difference of neighbors along the first axis in the eight corners, which show air in scans of heads."""
    sizes = [max(2, round(CORNER_SHARE * size)) for size in values.shape]
    corners = product(*((slice(0, size), slice(-size, None)) for size in sizes))
    return float(np.median(np.concatenate([np.abs(np.diff(values[corner], axis=0)).ravel() for corner in corners])))


def brightness_of_tissues(values: Values, air: float, inside: NDArray[np.bool_], scan: SegmentedScan) -> tuple[float, float]:
    """Return the medians of gray matter and of fluid, divided by that of white matter; 0 where they are unknown.

    Args:
        values: Scan `(X, Y, Z)`.
        air: Its value of air.
        inside: Where to look.
        scan: Its segmentation; the registration of it says which tissue the template has in a voxel.
    """
    if scan.to_mni is None:
        return 0.0, 0.0
    voxels = np.argwhere(inside)[:: max(1, int(inside.sum()) // SAMPLE)]
    positions, brightness = apply_affine(scan.to_mni @ scan.affine, voxels), values[tuple(voxels.T)] - air
    templates = (load_mni152_gm_template, load_mni152_wm_template, load_mni152_brain_mask)
    gray, white, brain = (
        look_up(np.asarray(image.dataobj), image.affine, positions) for image in (load(resolution=1) for load in templates)
    )
    kinds = (white > SURE, gray > SURE, (brain > 0) & (gray + white < 1 - SURE))
    of_white, of_gray, of_fluid = (float(np.median(brightness[kind])) if kind.sum() >= LEAST_VOXELS else 0.0 for kind in kinds)
    return (of_gray / of_white, of_fluid / of_white) if of_white > 0 else (0.0, 0.0)


def judge(row: Mapping[str, Any], doubts: Sequence[str], warnings: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the row and all warnings of a scan; if there is a doubt, no lesion counts as not assessed, not as 0 ml.

    A scan that was not assessed is the first to look at: its uncertainty is 1.
    """
    if not doubts or row["lesions"]:
        return dict(row), [*doubts, *warnings]
    return {**dict.fromkeys(row), "brain_ml": row["brain_ml"], "uncertainty": 1.0}, [NOT_ASSESSED, *doubts, *warnings]


def notes_of_reading(item: Mapping[str, Any]) -> list[str]:
    """Return words from the conversion of a series, or what the header of a file leaves open."""
    image = item["image"]
    if isinstance(image, DicomImage):
        return list(image.doubts)
    header = read_nifti_header(image)
    return [f"the scan {what}" for what in (find_missing_affine(image, header), find_two_affines(header)) if what]
