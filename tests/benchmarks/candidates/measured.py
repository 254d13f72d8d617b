"""How a candidate hands back what it measured: the last line it prints, in JSON. Knows the standard library only."""

import itertools
import json
import resource
import statistics
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version


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

    def median_s(self, first: int = 0) -> float:
        """Return the median time between two events, from number `first` on."""
        later = self.at_s[first:]
        return statistics.median(b - a for a, b in itertools.pairwise(later))
