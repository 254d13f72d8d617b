"""The pretrained models find the brain and the lesion of a synthetic head."""

from pathlib import Path

import nibabel as nib
import pytest
from checkout import BUNDLES
from lesion_network import dice
from monai.bundle import run
from phantom_scan import phantom_scan

from strokelesion.pipeline.models.application import PretrainedBrainExtractor

LESION_DICE, BRAIN_DICE = 0.7, 0.95
VOXEL_MM = 2.0


@pytest.fixture(scope="module")
def head():
    return phantom_scan(VOXEL_MM)


def test_the_lesion_model_finds_the_lesion(head, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nib.save(nib.Nifti1Image(head["image"][0].numpy(), head["image"].affine.numpy()), tmp_path / "head.nii.gz")
    options = {"scans": "head.nii.gz", "output_dir": "masks", "pages": False, "engine": "torch", "device": "cpu"}
    run(run_id="inference", config_file=str(BUNDLES / "resunet.json"), logging_file=False, **options)
    found = nib.load(next(Path("masks").rglob("*_label-lesion_mask.nii.gz"))).get_fdata() > 0
    assert dice(found, head["lesions"][0].numpy() > 0) >= LESION_DICE


def test_the_brain_model_finds_the_brain(head):
    weights = (BUNDLES / "weights" / f"{name}.safetensors" for name in ("brain", "surface"))
    extract = PretrainedBrainExtractor(*weights, device="cpu")
    assert dice(extract(head["image"]), head["brain"].as_tensor() > 0) >= BRAIN_DICE
