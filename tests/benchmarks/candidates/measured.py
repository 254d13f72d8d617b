"""What every candidate measures with, and how it hands that back: the last line it prints, in JSON.

Knows the standard library only, until `gflop` is called.
"""

import json
import os
import platform
import re
import resource
import time
from collections.abc import Iterable, Sequence
from copy import deepcopy
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Return processor, cores, memory, system, and how busy the machine is before anything runs."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory_kib = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory_kib[1]) / 2**20, 1) if memory_kib else 0,
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def peak_gib() -> float:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def report(packages: Iterable[str] = (), note: str = "", **figures: float) -> None:
    """Print the figures of this process, the versions it ran with, and what must be said about them.

    Its peak memory is added, unless one is given.
    """
    figures = {"peak_gib": peak_gib(), **figures}
    print("\n" + json.dumps({"figures": figures, "versions": installed(packages), "note": note}), flush=True)


class Laps:
    """Times of events, one after the other, from the first on."""

    def __init__(self) -> None:
        self.at_s: list[float] = []

    def mark(self) -> None:
        """Remember that something happens now."""
        self.at_s.append(time.perf_counter())

    def seconds(self, first: int = 0) -> float:
        """Return how long it took from event number `first` to the last one."""
        return self.at_s[-1] - self.at_s[first]


def gflop(network: Any, shape: Sequence[int]) -> float:
    """Return the billions of additions and multiplications of one forward pass; nothing is computed."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network = deepcopy(network).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(tuple(shape), device="meta"))
    return counter.get_total_flops() / 1e9
