"""What all candidates work on: a phantom cohort at 1 mm, its slice store, and one epoch of it as arrays and as 2D NIfTIs.

python -m candidates.material FOLDER

cohort/ATLAS_R1.1/      scans of 197x233x189 voxels, heads with skull
slices/                 the project's slice store
epoch/image.npy, label.npy      the slices of an epoch, in its order, (N, 192, 224)
epoch/0000_t1.nii, 0000_lesion.nii      the same, a file each, not compressed: it is the peers that read them
scan.nii.gz             one T1
prepared.npy            the same as the pretrained model is shown it, (1, 1, X, Y, Z)
"""

import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from candidates.bundle import read_bundle
from strokelesion.pipeline.synthesis.phantom import write_phantom

SUBJECTS = 5  # one a fold, so that the epoch is that of four
FILES = {"image": "t1", "label": "lesion"}


def write_epoch(folder: Path) -> None:
    """Write the slices of the first epoch, as training would see them without augmentation."""
    config = read_bundle("resunet", folder)
    dataset, sampler = (config.get_parsed_content(f"train::{part}") for part in ("dataset", "sampler"))
    sampler.set_epoch(1)
    items = [dataset[number] for number in sampler]
    beside = folder / "epoch.part"
    beside.mkdir(exist_ok=True)
    for key, kind in FILES.items():
        slices = np.stack([item[key][0].numpy() for item in items])
        np.save(beside / f"{key}.npy", slices)
        for number, pixels in enumerate(slices):
            nib.save(nib.Nifti1Image(pixels, np.eye(4)), beside / f"{number:04d}_{kind}.nii")
    beside.rename(folder / "epoch")


def write_prepared(folder: Path) -> None:
    """Write the scan as the inferer gets it: brain found, scaled, cropped."""
    config = read_bundle("resunet", folder, "inference", scans=str(folder / "scan.nii.gz"))
    image = torch.as_tensor(config.get_parsed_content("dataset")[0]["image"])
    np.save(folder / "prepared.npy", np.asarray(image)[None])


def main() -> None:
    """Make what is missing."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    cohort = write_phantom(folder / "cohort", subjects=SUBJECTS, sites=1)
    if not (folder / "scan.nii.gz").exists():
        shutil.copy(min(cohort.rglob("*_t1w_deface_stx.nii.gz")), folder / "scan.nii.gz")
    if not (folder / "epoch").exists():
        write_epoch(folder)
    if not (folder / "prepared.npy").exists():
        write_prepared(folder)


if __name__ == "__main__":
    main()
