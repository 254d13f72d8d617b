"""Transforms whose results are kept in the slice store: their outputs are as they were stored, or their `version` is a new one.

The slice store finds its files by the `version` of each transform, not by its code. After a change of what a transform
computes, raise its `version` and store the outputs again:

    python tests/transforms/test_versions.py
"""

import json
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import small_head as head
import torch
from atlas import anatomy, grid, save_nifti
from monai.inferers import SliceInferer
from monai.transforms import CopyItemsd, Orientationd, Spacingd
from stand_ins import BrightIsBrain

from strokelesion import transforms
from strokelesion.transforms import synthesis

STORED = Path(__file__).with_name("stored_outputs.json")
TOLERANCE = 2e-3  # processors round differently, and a threshold may then call single voxels otherwise
KEYS = ["image", "label"]


def traced():
    """Return the transforms that read a scan with its masks."""
    return [
        transforms.LoadScand("image"),
        transforms.LoadMasksd(["main_mask", "sub_masks"]),
        transforms.BinarizeMasksd(["main_mask", "sub_masks"]),
        transforms.FuseSubmasksd("sub_masks"),
        transforms.LabelLesionsd(divide="masks"),
        Orientationd(KEYS, axcodes="RAS", labels=None),
        Spacingd(KEYS, pixdim=(7.0, 6.0, 8.0), mode=("bilinear", "nearest")),
    ]


def in_tissue():
    """Return the chain of a scan whose intensities rest on its tissue, in coronal slices."""
    return [
        *traced(),
        transforms.ScaleTissued("image"),
        transforms.CropToTissued(KEYS, "image"),
        transforms.TurnToPlaned([*KEYS, "brain"]),
        transforms.ExtractSlicesd(KEYS, slice_size=(30, 34), select="brain"),
    ]


def in_brain():
    """Return the chain of a scan whose intensities rest on its brain."""
    inferer = SliceInferer(roi_size=(64, 64), spatial_dim=2)
    find = transforms.BrainNetwork(BrightIsBrain(0.2), inferer, spacing_mm=8.0)
    refine = transforms.BrainNetwork(BrightIsBrain(0.3), inferer, spacing_mm=6.0, planes=("axial", "coronal"))
    return [
        *traced(),
        transforms.ExtractBraind("image", transforms.BrainExtractor(find, refine)),
        transforms.ScaleTissued("image", mask_key="brain"),
        transforms.CropToBraind([*KEYS, "brain"], "brain", margin_mm=10),
        transforms.StripHeadd("image", margin_mm=5),
        transforms.ExtractSlicesd(KEYS, slice_size=(30, 34), select="brain"),
    ]


def reviewed():
    """Return the transforms that read one mask of all lesions, which a map of the classes divides."""
    masks = ["main_mask"]
    return [
        transforms.LoadScand("image"),
        transforms.LoadMasksd(masks),
        transforms.BinarizeMasksd(masks),
        transforms.DivideByClassesd(),
    ]


def synthetic():
    """Return the chain that makes a synthetic scan, every random step taken."""
    return [
        synthesis.LoadLesionsd(),
        synthesis.RandPlaceHeadd(spacing_mm=4.0, extent_mm=(190, 220, 180)),
        CopyItemsd("tissues", names="native_tissues"),
        synthesis.RandWidenSpacesd(),
        synthesis.FitLesionsd(),
        synthesis.RandAddMimicsd(),
        synthesis.RandPaintTissuesd(any_contrast_prob=0, sulcal_partial_volume=0.5),
        synthesis.RandPaintLesionsd(),
        synthesis.RandPaintVascularSpacesd(),
        synthesis.BrainMaskd(),
        synthesis.RandBiasd(),
        synthesis.RandThickSlicesd(prob=1),
        synthesis.RandNoised(std=0.05, prob=1),
        synthesis.RandHeadCoverd(stripped=0.3, defaced=0.3, cut=0.3),
        synthesis.RandUnitsd(),
    ]


def labels():
    """Return FreeSurfer's numbers of a small head: white matter, cortex, ventricle, brain stem, skin."""
    volume = np.zeros((11, 13, 9), np.int16)
    for edge, number in ((1, 516), (2, 3), (3, 2), (4, 4)):
        volume[edge:-edge, edge:-edge, edge:-edge] = number
    return {"labels": torch.from_numpy(volume)[None]}


def scan(folder):
    """Write a scan with two lesions in an oblique grid, and return its record."""
    shape, affine = grid("LPS", (23, 29, 19), (8.0, 7.0, 9.0), 20)
    t1, main, sub = anatomy(shape, affine)
    volumes = {"image": t1, "main_mask": main * 254.99, "sub_masks": sub * 0.99999}  # as in ATLAS R1.1
    paths = {
        key: str(save_nifti(folder / f"{key}.nii.gz", volume.astype(np.float32), affine)) for key, volume in volumes.items()
    }
    return {**paths, "sub_masks": [paths["sub_masks"]], "plane": "coronal"}


def scan_with_classes(folder):
    """Write a scan with one mask of two lesions and a map of their classes, stored in another order; return its record."""
    record = scan(folder)
    main, sub = (np.asarray(nib.load(path).dataobj) > 0.5 for path in (record["main_mask"], record["sub_masks"][0]))
    affine = nib.load(record["image"]).affine
    classes = nib.Nifti1Image((main + 2 * (sub & ~main)).astype(np.uint8), affine)
    path = save_nifti(folder / "both.nii.gz", (main | sub).astype(np.uint8), affine)
    nib.save(classes.as_reoriented(np.array([[2, 1], [0, -1], [1, 1]])), folder / "classes.nii.gz")
    return {"image": record["image"], "main_mask": str(path), "classes": str(folder / "classes.nii.gz")}


def composition(folder):
    """Return what a synthetic scan is made of: a small head and a mask on disk."""
    path = str(folder / "mask.nii")
    nib.save(nib.Nifti1Image(head.lesion()["mask"][0].numpy().astype(np.uint8), head.affine().numpy()), path)
    return {"tissues": head.tissues(), "lesions": [{"path": path, "scale": 1.0, "flip": False}], "seed": 5}


CHAINS = {
    "in tissue": (in_tissue, scan),
    "in brain": (in_brain, scan),
    "reviewed": (reviewed, scan_with_classes),
    "synthetic": (synthetic, composition),
    "labels": (lambda: [synthesis.LabelTissuesd("labels")], lambda folder: labels()),
}


def outputs(chain, folder):
    """Return, for each transform of a chain in turn, its `version` and numbers that say what it made."""
    build, start = CHAINS[chain]
    sample, made = start(folder), {}
    for position, transform in enumerate(build()):
        if hasattr(transform, "set_random_state"):
            transform.set_random_state(seed=position)
        sample = transform(sample)
        if hasattr(transform, "version"):
            made[f"{chain}, {position}: {type(transform).__name__}"] = [transform.version, numbers(sample)]
    return made


def numbers(sample):
    """Return the shape of each volume of a sample, its mean, and a mean in which every voxel has a weight of its own."""
    volumes = {
        key: value.as_subclass(torch.Tensor).double() for key, value in sample.items() if isinstance(value, torch.Tensor)
    }
    found = {}
    for key, values in sorted(volumes.items()):
        weights = 1 + torch.sin(torch.arange(values.numel(), dtype=torch.float64)).reshape(values.shape)
        found[key] = [list(values.shape), float(values.mean()), float((values * weights).mean())]
    return found


@pytest.mark.parametrize("chain", CHAINS)
def test_transforms_compute_what_their_versions_say(chain, tmp_path):
    stored = {name: entry for name, entry in json.loads(STORED.read_text()).items() if name.startswith(f"{chain}, ")}
    made = outputs(chain, tmp_path)
    assert made.keys() == stored.keys(), "run python tests/transforms/test_versions.py"
    for name, (version, found) in made.items():
        was_version, was = stored[name]
        assert version == was_version, f"{name} has a new version: run python tests/transforms/test_versions.py"
        assert found.keys() == was.keys(), name
        for key, (shape, *means) in found.items():
            assert shape == was[key][0], f"{name}, {key}: raise its version"
            assert means == pytest.approx(was[key][1:], rel=TOLERANCE, abs=1e-5), f"{name}, {key}: raise its version"


def test_every_transform_with_a_version_is_looked_at():
    versioned = {
        name
        for module in (transforms, synthesis)
        for name, thing in vars(module).items()
        if isinstance(thing, type) and hasattr(thing, "version")
    }
    seen = {name.rpartition(": ")[2] for name in json.loads(STORED.read_text())}
    assert versioned - {"BrainExtractor", "BrainNetwork"} == seen


@pytest.mark.parametrize(("chain", "name"), [(in_tissue, "ScaleTissued"), (in_brain, "BrainExtractor")])
def test_the_key_of_the_store_follows_versions_and_not_the_text_of_modules(chain, name, monkeypatch):
    before = transforms.Recipe(chain()).fingerprint
    monkeypatch.setattr(getattr(transforms, name), "__doc__", "Edited.")
    assert transforms.Recipe(chain()).fingerprint == before
    monkeypatch.setattr(getattr(transforms, name), "version", 99)
    assert transforms.Recipe(chain()).fingerprint != before


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        everything = {key: entry for chain in CHAINS for key, entry in outputs(chain, Path(name)).items()}
    lines = [f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in everything.items()]
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(everything)} outputs stored in {STORED}", file=sys.stderr)
