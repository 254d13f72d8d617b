"""From the probabilities of one scan to everything that is known about it: lesions, numbers, warnings; no file is written.

`outputs.py` lists the files that are made of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import nan
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from nilearn.datasets import load_mni152_brain_mask
from numpy.typing import NDArray

from strokelesion.networks import UserError
from strokelesion.pipeline.lesions.lesion_table import Row, SegmentedScan, lesion_rows, scan_row
from strokelesion.pipeline.lesions.plausibility import (
    NOT_ASSESSED,
    doubts_of_image,
    doubts_of_item,
    judge,
    notes_of_reading,
    refuse_other_images,
)
from strokelesion.pipeline.lesions.uncertainty import estimate_uncertainty
from strokelesion.pipeline.runtime.files import plain
from strokelesion.transforms import DecideLesionsd, ScaleTissued, is_tissue
from strokelesion.transforms.drawn_masks import as_most, as_shares
from strokelesion.transforms.geometry import resampled, voxel_ml
from strokelesion.transforms.headers import find_missing_affine, mask_header, read_nifti_header
from strokelesion.transforms.registration import Registration, find_pose

# A lesion rarely fills more than this share of the brain.
LARGEST_SHARE = 0.35
# A drawn lesion hardly has more outside the brain of the template, which is registered with an affine.
MOST_OUTSIDE = 0.5
TOO_LARGE = "more than"
NOT_PLACED = "the head could not be brought to MNI space, so it was segmented as it lies"
NO_BRAIN = "no brain was looked for (intensities: tissue), so there are no positions in MNI space and no share of the brain"
# Starts of warnings that are about the automatic mask, and about files made of it; a drawn mask has its own.
OF_AUTOMATIC = (NOT_ASSESSED, TOO_LARGE, "no filled scan was written", "no DICOM segmentation was written")
Register = Callable[..., Registration] | None


@dataclass(frozen=True)
class MeasuredScan:
    """Everything that is known about one segmented scan.

    Attributes:
        item: Scan as listed, with `image`, the file or DICOM series.
        image: Scan `(1, X, Y, Z)` with its affine.
        region: Mask of the brain, or of all tissue, for pictures, `(1, X, Y, Z)`.
        probabilities: Probabilities of background, main and sub on the scan's grid `(3, X, Y, Z)`; None for a drawn mask.
        evidence: What the labels were made from, `(3, X, Y, Z)`: the probabilities, or the classes of a drawn mask.
        header: NIfTI header for files on the scan's grid.
        decide: Function that makes labels from such evidence on any grid.
        segmented: Label map with everything that the numbers are computed from.
        tables: Rows by table; the files that are written may add tables.
        warnings: What is doubtful; the files that are written may add to it.
    """

    item: Mapping[str, Any]
    image: MetaTensor
    region: torch.Tensor
    probabilities: MetaTensor | None
    evidence: MetaTensor
    header: nib.Nifti1Header
    decide: Callable[[MetaTensor], torch.Tensor]
    segmented: SegmentedScan
    tables: dict[str, list[Row]]
    warnings: list[str]

    @property
    def labels(self) -> torch.Tensor:
        """Return the label map `(1, X, Y, Z)`: 0 background, 1 main lesion, 2 sub-lesion."""
        return torch.from_numpy(self.segmented.labels)[None]

    @property
    def stored_tables(self) -> dict[str, list[Row]]:
        """Return the tables in the form that a sidecar stores, with all warnings in the row of the scan."""
        (volumes,) = self.tables["volumes"]
        stored: dict[str, list[Row]] = plain(
            {**self.tables, "volumes": [{**volumes, "warnings": "; ".join(self.warnings) or None}]}
        )
        return stored


def measure_scan(
    item: Mapping[str, Any], outcome: Mapping[str, Any], decide: DecideLesionsd, register: Register
) -> MeasuredScan:
    """Decide which voxels of a scan are lesion, and measure them.

    Args:
        item: Scan with `image`, as `find_scans` lists it.
        outcome: Scan `scan`, its probabilities `pred` and, if there are any, its brain mask `scan_brain`, and as `beside` the
            future of what `find_start` returns.
        decide: Decision rule that turns probabilities into labels.
        register: Function that registers a brain to MNI space, see `register_brain`; None skips the registration.

    Raises:
        UserError: when the scan is a label map or a CT.
    """
    refuse_other_images(outcome["scan"])
    probabilities = outcome["pred"]
    labels = decide.decide(probabilities).as_subclass(torch.Tensor)
    scan, warnings, doubts = measure_lesions(labels, probabilities, outcome, register)
    header = read_nifti_header(item["image"])
    if find_missing_affine(item["image"], header):
        scan = replace(scan, knows_left=False)
    counted = {**scan_row(scan), "uncertainty": estimate_uncertainty(scan.labels > 0, scan.probability)}
    row, warnings = judge(counted, [*doubts, *doubts_of_item(item)], [*warnings, *notes_of_reading(item)])
    return MeasuredScan(
        item=item,
        image=outcome["scan"],
        region=where_to_look(outcome),
        probabilities=probabilities,
        evidence=probabilities,
        header=mask_header(header, probabilities.affine),
        decide=decide.decide,
        segmented=scan,
        tables={"volumes": [{**row, "mask": "automatic"}], "lesions": lesion_rows(scan)},
        warnings=warnings,
    )


def measure_drawn(
    item: Mapping[str, Any], image: MetaTensor, labels: torch.Tensor, known: Mapping[str, Any], probability: Any = None
) -> MeasuredScan:
    """Measure a mask that a person drew; brain, registration and warnings are those of the automatic segmentation.

    Args:
        item: Scan with `image`, as `find_scans` lists it.
        image: Scan `(1, X, Y, Z)` with its affine.
        labels: Label map `(1, X, Y, Z)`: 0 background, 1 main lesion, 2 sub-lesion.
        known: Sidecar of the automatic mask.
        probability: Probability of either lesion class `(X, Y, Z)`; None if it was not written.
    """
    (row,), to_mni = known["Tables"]["volumes"], known["ToMNI152NLin2009aSym"]
    header = read_nifti_header(item["image"])
    scan = SegmentedScan(
        labels[0].numpy(),
        probability,
        nan if row["brain_ml"] is None else row["brain_ml"],
        image.affine.numpy(),
        None if to_mni is None else np.array(to_mni),
        knows_left=not find_missing_affine(item["image"], header),
    )
    region = where_to_look({"scan": image}) if to_mni is None else template_brain(image, np.array(to_mni))
    outside = float((scan.labels > 0)[region[0].numpy() == 0].sum()) / max(1.0, float((scan.labels > 0).sum()))
    warnings = [words for words in known["Warnings"] if not words.startswith(OF_AUTOMATIC)] + notes_of_size(scan)
    if outside > MOST_OUTSIDE:
        warnings.append(f"{outside:.0%} of the drawn lesion lies outside the brain: look whether the mask is of another scan")
    return MeasuredScan(
        item=item,
        image=image,
        region=region,
        probabilities=None,
        evidence=as_shares(labels, image.affine),
        header=mask_header(header, image.affine),
        decide=as_most,
        segmented=scan,
        tables={"volumes": [{**row, **scan_row(scan), "mask": "manual"}], "lesions": lesion_rows(scan)},
        warnings=warnings,
    )


def template_brain(image: MetaTensor, to_mni: NDArray[np.floating]) -> torch.Tensor:
    """Return the brain mask of the MNI template on the grid of a scan, `(1, X, Y, Z)`."""
    brain, affine = brain_of_template()
    mask = MetaTensor(brain, affine=np.linalg.inv(to_mni) @ affine)
    return resampled(mask, image, mode="nearest").as_subclass(torch.Tensor).to(torch.uint8)


@cache
def brain_of_template() -> tuple[NDArray[np.uint8], NDArray[np.floating]]:
    """Return the brain mask of the MNI template `(1, X, Y, Z)` at 1 mm, and its affine."""
    template: Any = load_mni152_brain_mask(resolution=1)
    return np.asarray(template.dataobj, dtype=np.uint8)[None], template.affine


def where_to_look(outcome: Mapping[str, Any]) -> torch.Tensor:
    """Return the brain mask of a scan or, if it has none, the mask of all tissue, `(1, X, Y, Z)`."""
    found: torch.Tensor | None = outcome.get("scan_brain")
    return is_tissue(ScaleTissued("scan")({"scan": outcome["scan"]})["scan"]) if found is None else found


def measure_lesions(
    labels: torch.Tensor, probabilities: MetaTensor, outcome: Mapping[str, Any], register: Register
) -> tuple[SegmentedScan, list[str], list[str]]:
    """Return the segmented scan from which all numbers are computed, warnings, and doubts that it is a T1 of a whole brain.

    The registration of the brain to MNI space ignores the lesions, so that they do not distort it. If the scan was brought to
    MNI space before, the registration starts from there; else from what `find_start` found beside the network, if it did.
    """
    warnings, brain_ml, to_mni, doubts = [NO_BRAIN], nan, None, list[str]()
    if "scan_brain" in outcome:
        brain = (outcome["scan_brain"].as_tensor() > 0) | (labels > 0)
        brain_ml, warnings = float(brain.sum()) * voxel_ml(probabilities.affine), []
        start = brought_by(outcome)
        if start is None and "scan_to_mni" in outcome:
            warnings.append(NOT_PLACED)
        try:
            if register is not None:
                start = outcome["beside"].result() if start is None and outcome.get("beside") else start
                to_mni = register(outcome["scan"], brain, labels > 0, start).to_mni
        except UserError as error:
            doubts.append(str(error))
    lesion = probabilities.as_tensor()[1:].sum(dim=0)
    scan = SegmentedScan(labels[0].numpy(), lesion.numpy(), brain_ml, probabilities.affine.numpy(), to_mni)
    if "scan_brain" in outcome:
        doubts += doubts_of_image(outcome["scan"], brain[0].numpy(), scan)
    return scan, [*warnings, *notes_of_size(scan)], doubts


def notes_of_size(scan: SegmentedScan) -> list[str]:
    """Return a warning if too much of the brain is lesion."""
    is_large = float((scan.labels > 0).sum()) * scan.voxel_ml > LARGEST_SHARE * scan.brain_ml
    return [f"{TOO_LARGE} {LARGEST_SHARE:.0%} of the brain is called lesion: look at the mask"] if is_large else []


def find_start(sample: Mapping[str, Any]) -> NDArray[np.floating] | None:
    """Return a first affine to MNI space of a scan as the network gets it, see `find_pose`.

    None if it has no brain mask, or if it was brought to MNI space before.
    """
    return find_pose(sample["image"], sample["brain"]) if "brain" in sample and "to_mni" not in sample else None


def brought_by(outcome: Mapping[str, Any]) -> NDArray[np.floating] | None:
    """Return the affine `(4, 4)` that brought a scan to MNI space before segmentation, or None."""
    to_mni = torch.as_tensor(outcome.get("scan_to_mni", nan)).numpy()
    return None if np.isnan(to_mni).any() else to_mni
