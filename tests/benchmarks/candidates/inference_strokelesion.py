"""The project's inference on one scan of 197x233x189 voxels, with the pretrained model.

    python -m candidates.inference_strokelesion FOLDER network PLANES
    python -m candidates.inference_strokelesion FOLDER file first|registered

`network` is the forward passes alone, as the bundle's inferer makes them, of the scan that `material` prepared. `file` is the
command `inference`, from the scan's file to the results on disk, brain extraction included; importing the packages is not.
`registered` finds the registration that an earlier turn left, with all else to be done.
"""

import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import torch
from torch import nn

from candidates.bundle import read_bundle
from candidates.measured import gflop, peak_gib, report
from strokelesion.pipeline.models.application import load_weights
from strokelesion.pipeline.models.model_files import read_model
from strokelesion.pipeline.options.workflow import bundle_root


def measure_network(folder: Path, planes: str) -> dict[str, float]:
    """Measure the forward passes of one scan, the second time that they are made."""
    config = read_bundle("resunet", folder, "inference")
    config["planes"] = planes.split(",")  # the model's own, or some of them
    config.parse()
    path = config["weights"]
    network: nn.Module = load_weights(config.get_parsed_content("network"), read_model(path), path).eval()
    inferer = config.get_parsed_content("inferer")
    image = torch.from_numpy(np.load(folder / "prepared.npy"))
    shapes: Counter[tuple[int, ...]] = Counter()

    def count(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        shapes[tuple(inputs[0].shape[1:])] += len(inputs[0])

    before_gib = peak_gib()
    with torch.inference_mode():
        inferer(image, network)
        hook = network.register_forward_pre_hook(count)
        began_s = time.perf_counter()
        inferer(image, network)
        scan_s = time.perf_counter() - began_s
    hook.remove()
    billions = sum(number * gflop(network, (1, *shape)) for shape, number in shapes.items())
    return {"scan_s": scan_s, "gflop": billions, "windows": shapes.total(), "before_gib": before_gib}


def measure_file(folder: Path, way: str) -> dict[str, float]:
    """Measure the command."""
    if way != "registered":
        shutil.rmtree(folder / "results", ignore_errors=True)
    where = {"scans": "scan.nii.gz", "output_dir": "results"}
    options: dict[str, Any] = {name: str(folder / path) for name, path in where.items()}
    options |= {"device": "cpu", "overwrite": True}
    began_s = time.perf_counter()
    monai.bundle.run(run_id="inference", config_file=f"{bundle_root()}/resunet.json", logging_file=False, **options)
    return {"scan_s": time.perf_counter() - began_s}


if __name__ == "__main__":
    measure = {"network": measure_network, "file": measure_file}[sys.argv[2]]
    report(("torch", "monai"), **measure(Path(sys.argv[1]), *sys.argv[3:]))
