"""How well turned heads are registered to MNI space: target error against the same head untouched, and how many are refused.

    python tests/benchmarks/register_scans.py FOLDER [--affines 15] [--kinds whole,stripped,infarct,unseen,astray] [--csv FILE]

A folder holds T1s with FreeSurfer's labels, `X_T1w.nii.gz` and `X_labels.nii.gz`. Each head is turned by up to 30 degrees about
each axis, scaled by 0.8 to 1.2 along each, sheared by up to 0.1 and shifted by up to 40 mm, and sampled anew on an upright grid
of 1 mm:

    whole       as it is
    stripped    to the brain of the labels
    infarct     with 150 ml nearly as dark as air, given as lesion and, as `inference` does, counted as brain
    unseen      the same infarct, of which registration knows nothing
    astray      as it is, but from a start that is turned by 25 to 90 degrees: wrong results that the check must refuse

The brain is found by the pretrained model each time. The target error is taken over the voxels of the brain, in MNI
millimeters, against the registration of the untouched head by its labels, also of what the check refuses: it should be what is
far off.
"""

import argparse
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from candidates.bundle import configured
from extract_brains import LOAD, pairs
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from strokelesion.transforms import registration
from strokelesion.transforms.registration import register_brain

KINDS = ("whole", "stripped", "infarct", "unseen", "astray")
INFARCT_ML = 150.0
WRONG_MM = 4.0
CORRELATION_AT_LEAST, VOLUME_RATIOS = registration.CORRELATION_AT_LEAST, registration.VOLUME_RATIOS
registration.CORRELATION_AT_LEAST, registration.VOLUME_RATIOS = -1.0, (0.0, np.inf)  # all are let through and looked at


def random_affine(rng: np.random.Generator) -> np.ndarray:
    """Return an affine as the docstring of this file says."""
    turn = Rotation.from_euler("xyz", rng.uniform(-30, 30, 3), degrees=True).as_matrix()
    shear = np.eye(3) + np.triu(rng.uniform(-0.1, 0.1, (3, 3)), k=1)
    return from_matvec(turn @ shear @ np.diag(rng.uniform(0.8, 1.2, 3)), rng.uniform(-40, 40, 3))


def moved(image: MetaTensor, affine: np.ndarray) -> MetaTensor:
    """Return a head moved by an affine, on an upright grid of 1 mm that holds it."""
    placed = MetaTensor(image.as_tensor(), affine=torch.from_numpy(affine) @ image.affine)
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in image.shape[1:]])).reshape(3, -1).T
    low, high = (bound(apply_affine(placed.affine.numpy(), corners), axis=0) for bound in (np.min, np.max))
    grid = torch.from_numpy(from_matvec(np.eye(3), low))
    resample = SpatialResample(mode="bilinear", padding_mode="zeros", dtype=np.float32)
    return resample(placed, dst_affine=grid, spatial_size=np.ceil(high - low).astype(int).tolist())


def as_kind(image: MetaTensor, brain: torch.Tensor, kind: str, rng: np.random.Generator) -> tuple[MetaTensor, MetaTensor]:
    """Return a head whole, stripped, or with an infarct in one hemisphere, and where the infarct is."""
    nowhere = MetaTensor(torch.zeros_like(image.as_tensor()), affine=image.affine)
    if kind in ("whole", "astray"):
        return image, nowhere
    if kind == "stripped":
        return MetaTensor(image.as_tensor() * brain, affine=image.affine), nowhere
    voxels = np.argwhere(brain[0].numpy())
    places_mm = apply_affine(image.affine.numpy(), voxels)
    middle = places_mm.mean(axis=0)
    center = middle + np.array([rng.choice([-1, 1]) * 40, rng.uniform(-30, 30), 15])
    voxel_ml = float(image.pixdim.prod()) / 1000
    nearest = np.argsort(np.linalg.norm(places_mm - center, axis=1))[: round(INFARCT_ML / voxel_ml)]
    values = image.as_tensor().clone()
    values[0][tuple(voxels[nearest].T)] *= 0.1
    nowhere[0][tuple(voxels[nearest].T)] = 1
    return MetaTensor(values, affine=image.affine), nowhere


def astray(to_mni: np.ndarray, points_mm: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a registration that is turned about the middle of the brain by 25 to 90 degrees and shifted by up to 25 mm."""
    axis = rng.normal(size=3)
    turn = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.radians(rng.uniform(25, 90))).as_matrix()
    middle_mm = apply_affine(to_mni, points_mm).mean(axis=0)
    return from_matvec(turn, middle_mm - turn @ middle_mm + rng.uniform(-25, 25, 3)) @ to_mni


def measure(
    image: MetaTensor, brain: torch.Tensor, reference: np.ndarray, kind: str, extract: Any, rng: Any
) -> dict[str, float]:
    """Return what came of one registration of one head of one kind, against that of the untouched head."""
    affine, points_mm = random_affine(rng), apply_affine(image.affine.numpy(), np.argwhere(brain[0].numpy())[::997])
    changed, infarct = as_kind(image, brain, kind, rng)
    head = moved(changed, affine)
    lesions = moved(infarct, affine).as_tensor() > 0.5 if kind == "infarct" else torch.zeros(head.shape, dtype=torch.bool)
    known = reference @ np.linalg.inv(affine)
    start = astray(known, apply_affine(affine, points_mm), rng) if kind == "astray" else None
    started_s = time.perf_counter()
    found = register_brain(head, extract(head) | lesions, lesions, start)
    figures = {"seconds": time.perf_counter() - started_s, "correlation": found.correlation}
    away = apply_affine(found.to_mni @ affine, points_mm) - apply_affine(reference, points_mm)
    error_mm, ratio = np.linalg.norm(away, axis=1), np.linalg.det(found.to_mni)
    is_refused = found.correlation < CORRELATION_AT_LEAST or not VOLUME_RATIOS[0] < ratio < VOLUME_RATIOS[1]
    return {**figures, "mean_mm": error_mm.mean(), "worst_mm": error_mm.max(), "volume_ratio": ratio, "refused": is_refused}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--affines", type=int, default=15)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    extract = configured("synthesis", "synthesis").get_parsed_content("brain_extractor")
    rows = []
    for t1, truth in pairs(arguments.folder):
        image, brain = LOAD(t1), torch.as_tensor(truth > 0).as_subclass(torch.Tensor)
        reference = register_brain(image, brain).to_mni
        for number, kind in product(range(arguments.affines), arguments.kinds.split(",")):
            rng = np.random.default_rng([number, *t1.name.encode()])
            came = measure(image, brain, reference, kind, extract, rng)
            rows.append({"head": t1.name, "affine": number, "kind": kind, **came})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    by_kind = table.groupby("kind")[["mean_mm", "worst_mm", "correlation", "seconds"]]
    print(by_kind.agg(["median", "max", "min"]).round(2).to_string())
    wrong = table["mean_mm"] > WRONG_MM
    print(table.groupby(["kind", wrong.rename("wrong")])["refused"].agg(["sum", "count"]).to_string())
    if arguments.csv:
        table.to_csv(arguments.csv, index=False)


if __name__ == "__main__":
    main()
