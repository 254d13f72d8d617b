"""What the figures were measured on."""

import os
import platform
import re
from pathlib import Path


def describe() -> dict[str, str | int | float]:
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
