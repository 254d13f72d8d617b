"""What this machine could do at most: arithmetic, memory, and what the three networks and the augmentation need of them.

    python -m candidates.ceiling FOLDER

Operations of a training step are three times those of a forward pass. Bytes are what modules read and write, each on its own,
at two bytes a number, three times; concatenations and upsampling come on top. Ceilings are for one of the two limits alone.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import nn

from candidates.bundle import read_bundle
from candidates.measured import gflop, report

SLICE = (1, 1, 192, 224)
TRAINING = 3
BYTES = 2


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


def copy_gb_per_s(size: int = 2**28) -> float:
    """Return how much memory is read and written in a second."""
    source, target = torch.zeros(2, size, dtype=torch.uint8)
    return 2 * size / seconds(lambda: target.copy_(source)) / 1e9


def moved_gb(network: nn.Module) -> float:
    """Return how many gigabytes the modules of a network read and write for one slice, forward and backward."""
    numbers = [0]

    def count(_: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        numbers[0] += inputs[0].numel() + output.numel()

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    network(torch.zeros(SLICE))
    return TRAINING * BYTES * numbers[0] / 1e9


def sampled_per_s(batch: int = 32) -> float:
    """Return how many slices and label maps one core resamples in a second where it is known already where to look."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    slices = torch.rand(batch, *SLICE[1:])
    theta = torch.tensor([[1.0, 0.1, 0.0], [-0.1, 1.0, 0.0]]).repeat(batch, 1, 1)
    grid = F.affine_grid(theta, list(slices.shape), align_corners=False)
    taken_s = sum(seconds(lambda: F.grid_sample(slices, grid, mode, align_corners=False)) for mode in ("bilinear", "nearest"))  # noqa: B023
    torch.set_num_threads(threads)
    return batch / taken_s


def main() -> None:
    """Measure and print."""
    torch.set_grad_enabled(False)
    figures = {"sampled_slices_per_s_per_core": sampled_per_s(), "copy_gb_per_s": copy_gb_per_s()}
    for name, dtype in (("single", torch.float32), ("bfloat16", torch.bfloat16)):
        figures |= {f"{work}_{name}_gflops": value for work, value in gflops(dtype).items()}
    for bundle in ("resunet", "unet", "segnet"):
        network = read_bundle(bundle, Path(sys.argv[1])).get_parsed_content("network_def")
        needed, moved = TRAINING * gflop(network, SLICE), moved_gb(network)
        figures |= {f"{bundle}_gflop_a_slice": needed, f"{bundle}_gb_a_slice": moved}
        figures[f"{bundle}_arithmetic_slices_per_s"] = figures["product_bfloat16_gflops"] / needed
        figures[f"{bundle}_memory_slices_per_s"] = figures["copy_gb_per_s"] / moved
    report(("torch",), **figures)


if __name__ == "__main__":
    main()
