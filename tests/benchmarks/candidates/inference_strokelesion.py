"""The project's inference on one scan of 197x233x189 voxels.

    python -m candidates.inference_strokelesion FOLDER network resunet_synthetic|unet|segnet [PLANES]
    python -m candidates.inference_strokelesion FOLDER file resunet_synthetic pages|no_pages|registered

`network` is the forward passes alone, as the bundle's inferer makes them, of the scan that `material` has prepared; U-Net and
SegNet, for which no weights ship, have random ones. `file` is the verb `inference` with the weights that ship, from the
scan's file to the results on disk, brain extraction included; importing the packages is not. `registered` finds the
registration that an earlier turn left, with all else to be done.
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
from candidates.flops import gflop
from candidates.measured import peak_gib, report


def measure_network(folder: Path, bundle: str, planes: str = "axial") -> None:
    """Measure the forward passes of one scan, the second time that they are made."""
    config = read_bundle(bundle, folder, planes=planes)
    network: nn.Module = config.get_parsed_content("network").eval()
    inferer = config.get_parsed_content("inferer")
    image = torch.from_numpy(np.load(folder / f"prepared/{bundle}.npy"))
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
    report(("torch", "monai"), scan_s=scan_s, gflop=billions, windows=shapes.total(), before_gib=before_gib)


def measure_file(folder: Path, bundle: str, way: str) -> None:
    """Measure the verb."""
    results = folder / "results"
    if way != "registered":
        shutil.rmtree(results, ignore_errors=True)
    scan = str(folder / "scan.nii.gz")
    named: dict[str, Any] = {
        "scans": scan,
        "output_dir": str(results),
        "pages": way != "no_pages",
        "device": "cpu",
        "overwrite": True,
    }
    began_s = time.perf_counter()
    monai.bundle.run(run_id="inference", config_file=f"bundles/{bundle}.json", logging_file=False, **named)
    report(("torch", "monai"), scan_s=time.perf_counter() - began_s)


def main() -> None:
    """Measure and print."""
    folder, what, bundle = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    if what == "network":
        measure_network(folder, bundle, *sys.argv[4:])
    else:
        measure_file(folder, bundle, sys.argv[4])


if __name__ == "__main__":
    main()
