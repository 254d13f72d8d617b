"""The slices that peers hold in memory, and the clock around what they make of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from candidates.measured import Laps

BATCH = 32
LEAST_S = 5.0


def read_epoch(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images and label maps, `(N, 192, 224)`."""
    image, label = (np.load(folder / f"epoch/{key}.npy") for key in ("image", "label"))
    return image, label


def slices_per_s(batches: Iterator[Any]) -> float:
    """Return how many slices a second come as batches, after a first one that warms up; the iterator goes on without end."""
    laps = Laps()
    for _ in batches:
        laps.mark()
        if len(laps.at_s) > 1 and laps.seconds() > LEAST_S:
            break
    return (len(laps.at_s) - 1) * BATCH / laps.seconds()
