"""A cohort whose heads lie askew: each scan, with its masks, turned by up to some degrees about each axis and sampled anew.

    python tests/benchmarks/tilt_scans.py COHORT TILTED [--degrees 25]

A cohort is a folder in R1.1 layout, as `synthesis` writes it. What `--prepare` is worth shows when both are evaluated.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from extract_brains import LOAD
from monai.data import MetaTensor
from nibabel.affines import from_matvec
from register_scans import moved
from scipy.spatial.transform import Rotation


def tilted(path: Path, degrees: float) -> nib.Nifti1Image:
    """Return a scan or mask turned as all files of its folder are."""
    rng = np.random.default_rng(list(path.parent.as_posix().encode()))
    affine = from_matvec(Rotation.from_euler("xyz", rng.uniform(-degrees, degrees, 3), degrees=True).as_matrix())
    image = LOAD(path)
    there = moved(MetaTensor(image.as_tensor().float(), affine=image.affine), affine)
    values = there[0].numpy()
    if "t1w" not in path.name:
        values = np.where(values > image.max().item() / 2, image.max().item(), 0)
    return nib.Nifti1Image(values.astype(np.float32), there.affine.numpy())


def main() -> None:
    """Turn and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("tilted", type=Path)
    parser.add_argument("--degrees", type=float, default=25)
    arguments = parser.parse_args()
    for path in sorted(arguments.cohort.rglob("*")):
        there = arguments.tilted / path.relative_to(arguments.cohort)
        there.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith(".nii.gz"):
            nib.save(tilted(path, arguments.degrees), there)
        elif path.is_file():
            there.write_bytes(path.read_bytes())


if __name__ == "__main__":
    main()
