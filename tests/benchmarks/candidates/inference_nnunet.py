"""nnU-Net v2 on the same scan, with untrained weights of the size that its own planner chooses.

    python -m candidates.inference_nnunet FOLDER network|file 2d|3d_fullres [TILES]

Planned for scans like ATLAS R2.0's: 197x233x189 voxels of 1 mm, three classes, its default planner for 8 GB. Its own
predictor runs: steps of half a tile, Gaussian weights, no mirroring, one fold. Only the first TILES of a scan are computed;
the others are taken to cost as much as the median of those after the first, which warms up. `network` is that alone; `file`
adds everything else that the predictor does, reading, cropping, normalizing, putting tiles together, resampling, and writing
the label map, which is measured. The environment names nnU-Net's folders; speed.py sets them.
"""

import contextlib
import io
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from batchgenerators.utilities.file_and_folder_operations import load_json, save_json
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from candidates.measured import gflop, peak_gib, report

TILES = {"2d": 24, "3d_fullres": 3}
NAME = "Dataset001_ATLAS"
SCANS = 655
INTENSITIES = dict.fromkeys(("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 1.0)
FINGERPRINT = {
    "spacings": [[1.0, 1.0, 1.0]] * SCANS,
    "shapes_after_crop": [[189, 233, 197]] * SCANS,  # z, y, x: its noise is not zero, so nothing is cropped
    "foreground_intensity_properties_per_channel": {"0": INTENSITIES},
    "median_relative_size_after_cropping": 1.0,
}


def plan(scan: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return plans and data set description for a data set like ATLAS R2.0, whose fingerprint is written by hand."""
    dataset = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "main": 1, "sub": 2},
        "numTraining": SCANS,
        "file_ending": ".nii.gz",
        "dataset": {"scan": {"images": [str(scan.absolute())], "label": str(scan.absolute())}},
    }
    for path, content in (("raw/{}/dataset.json", dataset), ("preprocessed/{}/dataset_fingerprint.json", FINGERPRINT)):
        file = folder / path.format(NAME)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_json(content, str(file))
    with contextlib.redirect_stdout(io.StringIO()):
        ExperimentPlanner(NAME).plan_experiment()
    return load_json(str(folder / "preprocessed" / NAME / "nnUNetPlans.json")), dataset


class SomeTiles(nnUNetPredictor):
    """Its predictor, which stops after some tiles and times them."""

    def __init__(self, tiles: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.tiles, self.of, self.tile_s = tiles, 0, []

    def _internal_get_sliding_window_slicers(self, image_size: tuple[int, ...]) -> list[Any]:
        slicers = super()._internal_get_sliding_window_slicers(image_size)
        self.of = len(slicers)
        return slicers[: self.tiles]

    def _internal_maybe_mirror_and_predict(self, x: torch.Tensor) -> torch.Tensor:
        began_s = time.perf_counter()
        prediction = super()._internal_maybe_mirror_and_predict(x)
        self.tile_s.append(time.perf_counter() - began_s)
        return prediction


def predictor_of(configuration: str, folder: Path, tiles: int) -> SomeTiles:
    """Return the predictor of an untrained network."""
    plans, dataset = plan(folder / "scan.nii.gz", folder / "nnunet")
    manager = PlansManager(plans)
    settings = manager.get_configuration(configuration)
    network = get_network_from_plans(
        settings.network_arch_class_name,
        settings.network_arch_init_kwargs,
        settings.network_arch_init_kwargs_req_import,
        input_channels=1,
        output_channels=3,
        deep_supervision=False,
    )
    predictor = SomeTiles(tiles, tile_step_size=0.5, use_gaussian=True, use_mirroring=False, device=torch.device("cpu"))
    predictor.allow_tqdm = False
    predictor.manual_initialization(network, manager, settings, [network.state_dict()], dataset, "nnUNetTrainer", None)
    return predictor


def main() -> None:
    """Measure and print."""
    folder, what, configuration = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    predictor = predictor_of(configuration, folder, int(sys.argv[4]) if sys.argv[4:] else TILES[configuration])
    out = folder / "nnunet" / configuration
    out.mkdir(exist_ok=True)
    began_s, before_gib = time.perf_counter(), peak_gib()
    predictor.predict_from_files_sequential([[str(folder / "scan.nii.gz")]], [str(out / "scan")])
    around_s = time.perf_counter() - began_s - sum(predictor.tile_s)
    patch = predictor.configuration_manager.patch_size
    note = f"{len(predictor.tile_s)} of {predictor.of} tiles of {'x'.join(map(str, patch))} computed, the rest multiplied"
    report(
        ("nnunetv2", "torch"),
        note,
        scan_s=median(predictor.tile_s[1:]) * predictor.of + (around_s if what == "file" else 0),
        gflop=gflop(predictor.network, (1, 1, *patch)) * predictor.of,
        windows=predictor.of,
        before_gib=before_gib,
    )


if __name__ == "__main__":
    main()
