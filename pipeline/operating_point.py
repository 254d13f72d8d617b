"""The operating point of a network, threshold and least component volume, and the search for it on held-out scans."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from strokelesion.pipeline.files import DECIMALS
from strokelesion.transforms.decision import components, least_voxels

THRESHOLDS = tuple(percent / 100 for percent in range(10, 91, 5))
MIN_COMPONENTS_ML = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class OperatingPoint:
    """What `DecideLesionsd` needs to know.

    Attributes:
        threshold: probability of main and sub together from which on a voxel is lesion.
        min_component_ml: lesions of less volume are dropped.
    """

    threshold: float = 0.5
    min_component_ml: float = 0.0


PLAIN = OperatingPoint()
# Mean Dice over some dozens of scans has a standard error of several hundredths.
CHANCE = 0.005


class OperatingPointSearch:
    """Measure every operating point of `THRESHOLDS` x `MIN_COMPONENTS_ML` on the scans that an evaluator predicts.

    Attach to an evaluator whose output holds `pred`, probabilities `(3, H, W, D)`, and `label` `(1, H, W, D)`. The measure
    is the Dice of main and sub together over the whole scan, as ISLES'26 counts it: in a scan without lesion it is 1 where
    nothing is found and 0 where anything is, so that healthy scans have their say.

    Args:
        spacing_mm: voxel size of the scans.
    """

    def __init__(self, spacing_mm: Sequence[float]) -> None:
        self.voxel_ml = prod(spacing_mm) / 1000
        self.scores: list[NDArray[np.float64]] = []
        self.has_lesion = False

    def attach(self, evaluator: Engine) -> None:
        """Follow `evaluator`."""
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self.score)

    def score(self, evaluator: Engine) -> None:
        """Score the scans of one iteration."""
        items: Any = evaluator.state.output
        for item in items:
            truth = item["label"][0].as_subclass(torch.Tensor) > 0
            self.has_lesion |= bool(truth.any())
            self.scores.append(dice_table(item["pred"][1:].as_subclass(torch.Tensor).sum(0), truth, self.voxel_ml))

    def table(self) -> pd.DataFrame:
        """Return the mean over scans: one row an operating point, `threshold`, `min_component_ml`, `dice`.

        Raises:
            ValueError: when no scan had a lesion.
        """
        if not self.has_lesion:
            raise ValueError("no held-out scan has a lesion; expected some to choose the threshold on. Check the split.")
        points = pd.DataFrame(product(THRESHOLDS, MIN_COMPONENTS_ML), columns=["threshold", "min_component_ml"])
        return points.assign(dice=np.mean(self.scores, axis=0).ravel())


def dice_table(probability: torch.Tensor, truth: torch.Tensor, voxel_ml: float) -> NDArray[np.float64]:
    """Return the Dice of one scan at every operating point.

    Args:
        probability: of main and sub together, `(H, W, D)`.
        truth: where either is, `(H, W, D)`.
        voxel_ml: volume of a voxel in milliliters.

    Returns:
        `(len(THRESHOLDS), len(MIN_COMPONENTS_ML))`.
    """
    true_voxels = int(truth.sum())
    box = box_of(probability >= THRESHOLDS[0])
    probability, truth = probability[box], truth[box]
    least = np.array([least_voxels(volume_ml, voxel_ml) for volume_ml in MIN_COMPONENTS_ML])
    return np.stack([dice_by_size(probability >= threshold, truth, true_voxels, least) for threshold in THRESHOLDS])


def dice_by_size(mask: torch.Tensor, truth: torch.Tensor, true_voxels: int, least: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the Dice of a mask without its components of fewer than so many voxels, `(S,)`.

    Dice = 2 TP / (P + T), where P and TP are sums over the components that stay: they are found once. It is 1 where P and T
    are both 0.

    Args:
        mask: predicted lesions `(H, W, D)`.
        truth: true ones, on the same grid; T may count more, outside of it.
        true_voxels: T.
        least: least sizes in voxels, `(S,)`.
    """
    numbers, sizes = components(mask)
    shared = np.bincount(numbers[truth.numpy(force=True)], minlength=len(sizes))
    stays = sizes[1:] >= least[:, None]
    both = stays @ sizes[1:] + true_voxels
    dice: NDArray[np.float64] = np.divide(2.0 * (stays @ shared[1:]), both, out=np.ones(len(least)), where=both > 0)
    return dice


def box_of(mask: torch.Tensor) -> tuple[slice, slice, slice]:
    """Return the box around a mask `(H, W, D)`; one voxel where it is empty. It only saves time."""
    box: tuple[slice, slice, slice] | None = find_objects(mask.numpy(force=True).astype(np.uint8), max_label=1)[0]
    return box or (slice(0, 1), slice(0, 1), slice(0, 1))


def best_point(table: pd.DataFrame) -> OperatingPoint:
    """Return the plainest of the points whose mean Dice is as good as the highest, but for `CHANCE`.

    Plain is a threshold near one half, then a small least volume.
    """
    changes = table.assign(change=(table["threshold"] - PLAIN.threshold).abs()).round(DECIMALS)
    good = changes[changes["dice"] >= changes["dice"].max() - CHANCE]
    ranked = good.sort_values(["change", "min_component_ml", "threshold"])
    return OperatingPoint(*map(float, table.loc[ranked.index[0], ["threshold", "min_component_ml"]]))
