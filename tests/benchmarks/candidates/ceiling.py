"""What this machine could do at most: its arithmetic, and what a training step of the three networks needs of it.

    python -m candidates.ceiling FOLDER

Operations of a training step are three times those of a forward pass.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

from candidates.bundle import read_bundle
from candidates.measured import gflop, report

SLICE = (1, 1, 192, 224)
TRAINING = 3


def seconds(work: Callable[[], object], times: int = 7) -> float:
    """Return the median time that some work takes, after once that warms up."""
    taken = []
    for _ in range(1 + times):
        began_s = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began_s)
    return median(taken[1:])


def gflops(dtype: torch.dtype, size: int = 2048) -> dict[str, float]:
    """Return the throughput of the product of two large matrices, and of 3x3 convolutions at resolutions of the networks."""
    one, other = torch.rand(2, size, size, dtype=dtype)
    found = {"product": 2 * size**3 / seconds(lambda: one @ other) / 1e9}
    for width, shrunk in ((16, 1), (64, 4), (256, 16)):
        image, kernel = torch.rand(16, width, 192 // shrunk, 224 // shrunk), torch.rand(width, width, 3, 3)
        image, kernel = (each.to(dtype, memory_format=torch.channels_last) for each in (image, kernel))
        taken_s = seconds(lambda: F.conv2d(image, kernel, padding=1))  # noqa: B023
        found[f"convolution_{width}"] = 2 * 9 * width * image.numel() / taken_s / 1e9
    return found


def main() -> None:
    """Measure and print."""
    torch.set_grad_enabled(False)
    figures = {}
    for name, dtype in (("single", torch.float32), ("bfloat16", torch.bfloat16)):
        figures |= {f"{work}_{name}_gflops": value for work, value in gflops(dtype).items()}
    for bundle in ("resunet", "unet", "segnet"):
        network = read_bundle(bundle, Path(sys.argv[1])).get_parsed_content("network_def")
        figures[f"{bundle}_gflop_a_slice"] = needed = TRAINING * gflop(network, SLICE)
        figures[f"{bundle}_arithmetic_slices_per_s"] = figures["product_bfloat16_gflops"] / needed
    report(("torch",), **figures)


if __name__ == "__main__":
    main()
