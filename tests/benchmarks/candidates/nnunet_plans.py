"""What nnU-Net v2's own planner makes of a data set like ATLAS R2.0, whose fingerprint is written by hand."""

import contextlib
import io
from pathlib import Path
from typing import Any

from batchgenerators.utilities.file_and_folder_operations import load_json, save_json
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

NAME = "Dataset001_ATLAS"
SCANS = 655
SHAPE = [189, 233, 197]  # z, y, x: its noise is not zero, so nothing is cropped
INTENSITIES = dict.fromkeys(("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 1.0)


def plan(scan: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return plans and data set description, planned in a folder that the environment names as nnU-Net's."""
    dataset = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "main": 1, "sub": 2},
        "numTraining": SCANS,
        "file_ending": ".nii.gz",
        "dataset": {"scan": {"images": [str(scan.absolute())], "label": str(scan.absolute())}},
    }
    fingerprint = {
        "spacings": [[1.0, 1.0, 1.0]] * SCANS,
        "shapes_after_crop": [SHAPE] * SCANS,
        "foreground_intensity_properties_per_channel": {"0": INTENSITIES},
        "median_relative_size_after_cropping": 1.0,
    }
    raw, preprocessed = folder / "raw" / NAME, folder / "preprocessed" / NAME
    for where, name, content in ((raw, "dataset.json", dataset), (preprocessed, "dataset_fingerprint.json", fingerprint)):
        where.mkdir(parents=True, exist_ok=True)
        save_json(content, str(where / name))
    with contextlib.redirect_stdout(io.StringIO()):
        ExperimentPlanner(NAME).plan_experiment()
    return load_json(str(preprocessed / "nnUNetPlans.json")), dataset
