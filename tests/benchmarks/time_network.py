"""What the networks cost alone: images a second in a training step, and seconds for the slices of a whole scan, by variant.

    python tests/benchmarks/time_network.py [--networks resunet unet segnet] [--slices 140] [--threads 2] [--json costs.json]

Each variant changes one thing of the one above it. All are measured in turn, `--repeats` times after one that warms up, and the
best of each counts, so that the ratios, to the first row of a network, bear other work on the machine. With one thread, seconds
are the processor's, which other work on the machine changes little. bf16 is left out where the processor cannot multiply it.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from monai.inferers import SimpleInferer, SliceInferer

from strokelesion.networks import CrossEntropyDiceLoss, MixedPrecisionInferer, ResUNet, SegNet, UNet
from strokelesion.networks.inferers import has_fast_bfloat16

NETWORKS = {"resunet": ResUNet, "unet": UNet, "segnet": SegNet}
SLICE_SIZE = (192, 224)


@dataclass(frozen=True)
class Variant:
    """One way to compute a network."""

    name: str
    channels_last: bool = True
    fused: bool = True
    bfloat16: bool = False


VARIANTS = (
    Variant("fp32", channels_last=False, fused=False),
    Variant("fp32 channels_last", fused=False),
    Variant("fp32 channels_last, fused Adam"),
    Variant("bf16 channels_last", fused=False, bfloat16=True),
    Variant("bf16 channels_last, fused Adam", bfloat16=True),
)


@dataclass
class Costs:
    """Seconds of what a variant does, by name: the best so far, without the first, which warms up."""

    runs: dict[str, Callable[[], Any]]
    clock: Callable[[], float]
    best_s: dict[str, float] = field(default_factory=dict)

    def measure(self, is_first: bool) -> None:
        """Time all once more."""
        for name, run in self.runs.items():
            before_s = self.clock()
            run()
            if not is_first:
                self.best_s[name] = min(self.clock() - before_s, self.best_s.get(name, inf))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--variants", nargs="+", choices=[v.name for v in VARIANTS], default=[v.name for v in VARIANTS])
    parser.add_argument("--neighbors", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--slices", type=int, default=140)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [row for name in arguments.networks for row in measured(name, arguments)]
    print(about := {**noted(), **{key: vars(arguments)[key] for key in ("threads", "batch", "slices", "neighbors", "repeats")}})
    print(pd.DataFrame(rows).round(2).to_string(index=False))
    if arguments.json:
        arguments.json.write_text(json.dumps({"about": about, "rows": rows}, indent=2))


def measured(name: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of a network."""
    chosen = [variant for variant in VARIANTS if variant.name in arguments.variants and is_possible(variant)]
    costs = {variant.name: prepared(NETWORKS[name], variant, arguments) for variant in chosen}
    for repeat in range(arguments.repeats + 1):
        for variant, cost in costs.items():
            cost.measure(is_first=repeat == 0)
            print(name, repeat, variant, cost.best_s, flush=True)
    first = next(iter(costs.values())).best_s
    return [
        {
            "network": name,
            "variant": variant,
            "images_per_s": arguments.batch / cost.best_s["step"],
            "step_ratio": cost.best_s["step"] / first["step"],
            "scan_s": cost.best_s["scan"],
            "scan_ratio": cost.best_s["scan"] / first["scan"],
        }
        for variant, cost in costs.items()
    ]


def is_possible(variant: Variant) -> bool:
    """Return whether this machine can compute a variant."""
    return has_fast_bfloat16(torch.device("cpu")) or not variant.bfloat16


def prepared(network_class: type[torch.nn.Module], variant: Variant, arguments: argparse.Namespace) -> Costs:
    """Return a training step and a scan of a variant."""
    torch.manual_seed(0)
    channels = 2 * arguments.neighbors + 1
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    network: Any = network_class(in_channels=channels).to(memory_format=layout)
    volume = torch.rand(1, channels, *SLICE_SIZE, arguments.slices)
    sliced = MixedPrecisionInferer(SliceInferer(roi_size=SLICE_SIZE, spatial_dim=2, sw_batch_size=16), variant.bfloat16, "cpu")

    @torch.no_grad()
    def scan() -> None:
        sliced(volume, network.eval())

    return Costs(
        {"step": training_step(network, variant, channels, arguments.batch), "scan": scan},
        time.process_time if arguments.threads == 1 else time.perf_counter,
    )


def training_step(network: torch.nn.Module, variant: Variant, channels: int, batch: int) -> Callable[[], Any]:
    """Return a training step on one random batch."""
    image, label = torch.rand(batch, channels, *SLICE_SIZE), torch.randint(3, (batch, 1, *SLICE_SIZE))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=variant.fused)
    inferer, loss_function = MixedPrecisionInferer(SimpleInferer(), variant.bfloat16, "cpu"), CrossEntropyDiceLoss()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_function(inferer(image, network.train()), label).backward()
        optimizer.step()

    return step


def noted() -> dict[str, Any]:
    """Return the versions and the processor's abilities that the costs depend on."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in ("torch", "monai")}}
    return {**versions, "capability": torch.backends.cpu.get_cpu_capability(), "bf16": has_fast_bfloat16(torch.device("cpu"))}


if __name__ == "__main__":
    main()
