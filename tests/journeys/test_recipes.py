"""The recipes of the pretrained models, whole and small: synthetic scans, training, release, new scans."""

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import small_head as head
import torch
from model_files import write_model, write_small
from stand_ins import tissue_is_brain

from strokelesion.pipeline.cohorts.splits import Split
from strokelesion.pipeline.evaluation.decision_search import MIN_COMPONENTS_ML, MIN_PEAKS, THRESHOLDS
from strokelesion.pipeline.models.model_files import read_model
from strokelesion.pipeline.synthesis.cohort import compose_records

CHANNELS = [8, 16, 32, 64, 128]


def small_sides(folder):
    """Return records of synthetic scans, two to train on and one to validate on, of the small head and one mask."""
    material = head.material(folder)
    return Split(
        *(compose_records(material, side, count, lesion_free=0) for side, count in (("training", 2), ("validation", 1)))
    )


@pytest.fixture
def where(tmp_path):
    return {
        "sides": {"_target_": "test_recipes.small_sides", "folder": str(tmp_path)},
        "run_dir": str(tmp_path / "run"),
    }


def test_the_brain_model_is_trained_and_released_as_scans_are_scaled_with(run_command, where, tmp_path):
    run_command("training", "brain", epochs=1, spacing_mm=2, batch_size=16, planes=["axial", "sagittal"], **where)
    run_command("release", "brain", output_dir=str(tmp_path / "given"), **where)
    path = tmp_path / "given/unet.safetensors"
    description = read_model(path).description
    slices = {"slice_mm": (256.0, 256.0), "crop_mm": (192.0, 192.0), "planes": ("axial", "sagittal"), "neighbors": 0}
    assert description.protocol.model_dump() == {"intensities": "tissue", "spacing_mm": (2.0,) * 3, "mirror": False, **slices}
    assert (description.network["channels"], description.training["epoch"]) == (CHANNELS, 1)
    assert path.stat().st_size < 2_000_000


def test_a_model_is_trained_on_synthetic_scans_released_and_applied(run_command, where, tmp_path):
    """With a brain model on disk, as the bundles ask for."""
    arguments = {"in_channels": 1, "out_channels": 2, "channels": CHANNELS}
    slices = {"spacing_mm": (2.0,) * 3, "slice_mm": (224.0, 256.0)}
    path = write_model(tmp_path / "brain.safetensors", tissue_is_brain(), "strokelesion.networks.UNet", arguments, **slices)
    brain = {"brain_weights": path}
    run_command("training", "resunet_synthetic", epochs=1, intensities="brain", **brain, **where)
    run_command("release", "resunet_synthetic", output_dir=str(tmp_path / "given"), **brain, **where)
    tried = pd.read_csv(tmp_path / "given/decisions.csv")
    assert len(tried) == len(THRESHOLDS) * len(MIN_COMPONENTS_ML) * len(MIN_PEAKS)
    image = nib.Nifti1Image(head.t1()[0].numpy(), head.affine().numpy())
    nib.save(image, tmp_path / "new_T1w.nii")
    # Registration takes most of a minute, and has tests of its own.
    new = {"scans": str(tmp_path / "new_T1w.nii"), "output_dir": str(tmp_path / "masks"), "results::register": "$None"}
    run_command("inference", "resunet", weights=str(tmp_path / "given/resunet.safetensors"), **brain, **new)
    mask = nib.load(tmp_path / "masks/sub-new/anat/sub-new_label-lesion_mask.nii.gz")
    assert mask.shape == head.SHAPE
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1, 2}
    protocol = json.loads(next((tmp_path / "masks").rglob("*_mask.json")).read_text())["Settings"]["protocol"]
    assert {"intensities": "brain", "planes": ["axial", "coronal"], "neighbors": 2}.items() <= protocol.items()


def test_a_model_is_adapted_to_a_few_scans(run_command, phantom_dir, tmp_path):
    """Three scans are enough; the model lies between the initial one and the trained one, and segments scans."""
    init, run = write_small(tmp_path / "init.pt", decision={"threshold": 0.35}), tmp_path / "run"
    few = tmp_path / "ATLAS_R1.1"
    for folder in sorted(phantom_dir.glob("Site*/*"))[:3]:
        shutil.copytree(folder, few / folder.relative_to(phantom_dir))
    options = {"dataset_dir": str(few), "run_dir": str(run), "epochs": 1, "epoch_slices": 16, "init_share": 0.25}
    run_command("training", "adapt", init=init, network_def=read_model(init).description.network, **options)
    adapted, start, last = map(read_model, (run / "resunet.safetensors", init, run / "last.pt"))
    for name, weights in adapted.weights.items():
        mixed = 0.25 * start.weights[name] + 0.75 * last.weights[name]
        torch.testing.assert_close(weights, mixed.to(weights.dtype), rtol=1e-3, atol=1e-3, msg=name)
    assert adapted.description.decision == start.description.decision
    scan = next(few.rglob("*t1w*"))
    run_command(
        "inference", "resunet", scans=str(scan), output_dir=str(tmp_path / "masks"), weights=str(run / "resunet.safetensors")
    )
    assert len(list((tmp_path / "masks").rglob("*_mask.nii.gz"))) == 1
