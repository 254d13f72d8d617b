"""Records of synthetic scans (head, lesions, seed), and cohorts of synthetic scans in the layout of ATLAS R1.1.

The transforms in bundles/synthesis.json make a synthetic scan from its record. Training can use the records directly and
writes only slices; the command `synthesis` writes scans and masks.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.splits import Split
from strokelesion.pipeline.cohorts.validation_scans import VALIDATION_GENERATOR
from strokelesion.pipeline.runtime.files import write_nifti
from strokelesion.pipeline.runtime.workers import workers
from strokelesion.pipeline.synthesis.heads import find_heads, prepare_heads
from strokelesion.pipeline.synthesis.lesion_drawing import draw_lesions, make_procedural_masks, read_lesions
from strokelesion.pipeline.synthesis.material import SIDES, Folders, divide
from strokelesion.pipeline.synthesis.scans_table import STANDARD, add_lowest_brain, write_scans_table
from strokelesion.transforms import Recipe

RELEASE = "ATLAS_R1.1"
# Six digits as in R1.1, outside the ranges of its patients and of the phantom: side, then number.
FIRST_ID = 200_000
IDS_PER_SIDE = 100_000
# Files of a prepared head.
FILE_KEYS = ("tissues", "image")
logger = logging.getLogger(__name__)


class Material(NamedTuple):
    """Prepared heads and table of lesion masks of one side: `training`, `validation` or `held_out`."""

    heads: list[dict[str, Any]]
    lesions: pd.DataFrame


def read_material(
    heads: Folders | None, masks: Folders | None, cache_dir: str | Path, side: str, extract_brain: Any = None
) -> Material:
    """Prepare the heads and masks of one side; `divide` assigns persons to sides.

    Args:
        heads: Folder or folders of label maps and T1s, see `find_heads`.
        masks: Folder or folders of lesion masks in MNI space; None for procedural masks.
        cache_dir: Folder for prepared heads, the table of masks and procedural masks.
        side: `training`, `validation` or `held_out`.
        extract_brain: Function that returns the brain mask of a T1, for heads without labels.
    """
    if heads is None:
        raise UserError(
            "--heads is missing; expected a folder of label maps or T1 scans of heads. Name it on the command line."
        )
    cache_dir = Path(cache_dir)
    chosen = divide(find_heads(heads), side)
    folder = masks if masks is not None else make_procedural_masks(cache_dir / "procedural", count=300, seed=0)
    lesions = read_lesions(folder, cache_dir)
    # Divided by file name, so that moving the folder does not change the sides.
    named = [{"person": Path(path).name, "path": path} for path in lesions["path"]]
    mine = lesions[lesions["path"].isin([item["path"] for item in divide(named, side)])].reset_index(drop=True)
    logger.info("%s: %d heads and %d lesion masks", side, len(chosen), len(mine))
    return Material(prepare_heads(chosen, cache_dir, extract_brain), mine)


def compose_sides(
    training: Material,
    validation: Material,
    scans: Sequence[int],
    seed: int,
    lesion_free: float,
    renewed: int,
    epochs: int,
    planes: Sequence[str],
) -> Split:
    """Return records for training and for validation, which share no heads and no masks.

    Args:
        training: Heads and lesion masks to train on.
        validation: Heads and lesion masks to validate on.
        scans: Numbers of training scans per epoch and of validation scans.
        seed: Random seed, see `compose_records`.
        lesion_free: Share of scans without lesion.
        renewed: Number of new scans in each epoch, which replace the oldest ones.
        epochs: Number of training epochs.
        planes: Slice planes of the training scans, in turn. A new scan adds more variety than another plane of the same scan.
    """
    shown, validating = scans
    records = compose_records(training, SIDES[0], shown + renewed * (epochs - 1), seed, lesion_free)
    in_planes = [{**record, "plane": plane} for record, plane in zip(records, cycle(planes), strict=False)]
    return Split(in_planes, compose_records(validation, SIDES[1], validating, seed, lesion_free), shown, renewed)


def compose_records(material: Material, side: str, scans: int, seed: int = 0, lesion_free: float = 0.1) -> list[dict[str, Any]]:
    """Return records of synthetic scans: head, lesions and seed. With more scans, the first records stay the same.

    Args:
        material: Heads and lesion masks to draw from.
        side: Side of the scans; determines their names and part of their random seed.
        scans: Number of scans.
        seed: Random seed.
        lesion_free: Share of scans without lesion.

    Returns:
        Records with `subject`, `person`, `session`, `site`, `image` or `tissues` or both, `lesions` and `seed`.
    """
    return [compose_record(material, SIDES.index(side), number, seed, lesion_free) for number in range(scans)]


def compose_record(material: Material, side: int, number: int, seed: int, lesion_free: float) -> dict[str, Any]:
    """Return the record of one synthetic scan."""
    rng = np.random.default_rng([seed, side, number])
    head = material.heads[rng.integers(len(material.heads))]
    lesions = [] if rng.uniform() < lesion_free else draw_lesions(material.lesions, rng)
    subject = f"{FIRST_ID + side * IDS_PER_SIDE + number}"
    names = {"subject": subject, "person": subject, "session": "t01", "site": f"Site{side + 1}", "release": "R1.1"}
    files: dict[str, Any] = {key: value for key, value in head.items() if key in FILE_KEYS}
    return {**names, **files, "head": head["person"], "lesions": lesions, "seed": int(rng.integers(2**31))}


def write_cohort(
    records: Sequence[Mapping[str, Any]],
    transform: Recipe,
    output_dir: str | Path,
    processes: int = 0,
    generator: str = STANDARD,
) -> Path:
    """Write synthetic scans in the layout of R1.1, with their true brain masks; existing scans are kept.

    `synthetic_scans.csv` beside the release lists the head, lesions, seed and generator of each scan, and what the generator
    `shifted` drew for it.

    Returns:
        The folder of the release, `<output_dir>/ATLAS_R1.1`.
    """
    release = Path(output_dir) / RELEASE
    write_scans_table(release.parent, records, generator)
    started_s = time.monotonic()
    missing = write_missing(release, records, partial(make_scan, release, transform), processes)
    if generator == VALIDATION_GENERATOR:
        add_lowest_brain(release.parent, {record["subject"]: path_of(release, record, "BrainMask") for record in records})
    speed = missing / max((time.monotonic() - started_s) / 60, 1e-9)
    print(f"{missing} synthetic scans written to {release}, {speed:.1f} a minute; {len(records) - missing} were there.")
    return release


def write_missing(
    release: Path, records: Sequence[Mapping[str, Any]], write: Callable[[Mapping[str, Any]], Any], processes: int
) -> int:
    """Write the scans that the release lacks, several in parallel, and return their number."""
    missing = [record for record in records if not path_of_last_file(release, record).exists()]
    with workers(processes) as pool:
        work = pool.map(write, missing)
        for _ in tqdm(work, total=len(missing), desc=f"scans in {release}", unit="scan", disable=not missing):
            pass
    return len(missing)


def path_of(release: Path, record: Mapping[str, Any], name: str) -> Path:
    """Return the path of a file of a scan."""
    folder = Path(release, record["site"], record["subject"], record["session"])
    return folder / f"{record['subject']}_{name}_stx.nii.gz"


def path_of_last_file(release: Path, record: Mapping[str, Any]) -> Path:
    """Return the file that is written last, so that its existence shows that the scan is complete."""
    return path_of(release, record, "t1w_deface")


def make_scan(release: Path, transform: Recipe, record: Mapping[str, Any]) -> None:
    """Make one synthetic scan from its record; write its T1, lesion masks and brain mask."""
    sample = transform(dict(record))
    label = torch.as_tensor(sample["label"])[0]
    volumes = {"LesionSmooth": label == 1, "BrainMask": torch.as_tensor(sample["brain"])[0] > 0}
    if (label == 2).any():
        volumes["LesionSmooth_1"] = label == 2
    affine = np.asarray(sample["image"].affine)
    for name, mask in volumes.items():
        save(mask.numpy(force=True).astype(np.uint8), affine, path_of(release, record, name))
    save(torch.as_tensor(sample["image"])[0].numpy(force=True).astype(np.int16), affine, path_of_last_file(release, record))


def save(array: np.ndarray[Any, Any], affine: np.ndarray[Any, Any], path: Path) -> None:
    """Write a NIfTI file in MNI space; its header says that the scan is synthetic."""
    image = nib.Nifti1Image(array, affine)
    image.header["descrip"] = b"synthetic scan, not a patient"
    image.set_sform(affine, code="mni")
    image.set_qform(affine, code="mni")
    write_nifti(path, image)
