"""The recipes of the shipped weights, whole and small: compose, train, ship, apply."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import small_head as head
from stand_ins import tissue_is_brain

from strokelesion.pipeline.operating_point import MIN_COMPONENTS_ML, MIN_PEAKS, THRESHOLDS
from strokelesion.pipeline.synthesis.cohort import Material, Sides, compose_records
from strokelesion.pipeline.weights import write_weights

BRIGHT = {
    "_target_": "strokelesion.transforms.BrainExtractor",
    "find": {
        "_target_": "strokelesion.transforms.BrainNetwork",
        "infer": "@brain_inferer",
        "network": {"_target_": "stand_ins.BrightIsBrain", "level": 0.2},
    },
}


def small_sides(folder):
    """Return records of composed scans, two to train on and one to validate on, of the small head and one mask."""
    paths = {"tissues": head.tissues()[0].numpy(), "mask": head.lesion()["mask"][0].numpy().astype(np.uint8)}
    for name, volume in paths.items():
        nib.save(nib.Nifti1Image(volume, head.affine().numpy()), f"{folder}/{name}.nii")
    lesions = pd.DataFrame([{"person": "one", "path": f"{folder}/mask.nii", "volume_ml": 14.0, "components": 1}])
    material = Material([{"person": "anna", "tissues": f"{folder}/tissues.nii"}], lesions)
    return Sides(
        *(compose_records(material, side, count, lesion_free=0) for side, count in (("training", 2), ("validation", 1)))
    )


@pytest.fixture
def where(tmp_path):
    return {
        "sides": {"_target_": "test_recipes.small_sides", "folder": str(tmp_path)},
        "run_dir": str(tmp_path / "run"),
        "cache_dir": str(tmp_path / "slices"),
        "weights_dir": str(tmp_path / "weights"),
    }


def test_the_brain_network_is_trained_and_shipped_as_scans_are_scaled_with(run_verb, where, tmp_path):
    run_verb("training", "brain", epochs=1, spacing_mm=2, batch_size=16, planes=["axial", "sagittal"], **where)
    run_verb("shipping", "brain", spacing_mm=2, planes="axial,sagittal", **where)
    about = json.loads((tmp_path / "weights/brain.json").read_text())
    slices = {"slice_mm": [256, 256], "crop_mm": [192, 192], "planes": ["axial", "sagittal"], "neighbors": 0}
    assert about["protocol"] == {"intensities": "tissue", "spacing_mm": [2.0] * 3, **slices}
    assert about["training"]["epoch"] == 1
    assert (tmp_path / "weights/brain.safetensors").stat().st_size < 2_000_000


def test_a_network_is_trained_on_composed_scans_shipped_and_applied(run_verb, where, tmp_path):
    brain = {"intensities": "brain", "brain_extractor": BRIGHT}
    run_verb("training", "resunet_synthetic", epochs=1, **brain, **where)
    run_verb("shipping", "resunet_synthetic", **brain, **where)
    tried = pd.read_csv(tmp_path / "run/operating_points.csv")
    assert len(tried) == len(THRESHOLDS) * len(MIN_COMPONENTS_ML) * len(MIN_PEAKS)
    image = nib.Nifti1Image(head.tissues()[0].numpy().astype(np.float32) + 20, head.affine().numpy())
    nib.save(image, tmp_path / "new_T1w.nii")
    shipped = str(tmp_path / "weights/resunet.safetensors")
    run_verb("inference", "resunet_synthetic", scans=str(tmp_path / "new_T1w.nii"), output_dir=str(tmp_path / "masks"),
             shipped=shipped, **brain, **{**where, "sides": None})  # fmt: skip
    mask = nib.load(tmp_path / "masks/sub-new/anat/sub-new_label-lesion_mask.nii.gz")
    assert mask.shape == head.SHAPE
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1, 2}


def test_brain_weights_on_disk_are_what_the_bundles_ask_for(run_verb, where, tmp_path):
    weights = tmp_path / "brain.safetensors"
    protocol = {"intensities": "tissue", "spacing_mm": [2.0] * 3, "slice_mm": [224, 256]}
    write_weights(tissue_is_brain(), weights, {"protocol": protocol, "threshold": 0.5, "min_component_ml": 0, "training": {}})
    run_verb("training", "resunet_synthetic", epochs=1, intensities="brain", brain_weights=str(weights), **where)
    assert (tmp_path / "run/best.pt").exists()
