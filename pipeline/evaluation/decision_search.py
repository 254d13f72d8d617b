"""Search a model's decision rule on held-out scans: threshold, minimum component volume and minimum peak."""

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from numpy.typing import NDArray

from strokelesion.networks import UserError
from strokelesion.pipeline.evaluation.metrics import ISLES26_MIN_IOU, ISLES26_NEIGHBORS
from strokelesion.pipeline.lesions.lesion_matching import LesionPairs, compute_lesion_f1, find_matched, pair_lesions
from strokelesion.pipeline.models.description import Decision
from strokelesion.pipeline.runtime.files import DECIMALS
from strokelesion.transforms.components import components, least_voxels, peaks
from strokelesion.transforms.geometry import bounding_box

THRESHOLDS = tuple(percent / 100 for percent in range(10, 91, 5))
MIN_COMPONENTS_ML = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MIN_PEAKS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
PLAIN = Decision()
ATTRIBUTES = list(Decision.model_fields)
# Smaller differences count as chance: over some dozens of scans, the standard error of mean Dice or F1 is several hundredths.
CHANCE = 0.005


class DecisionSearch:
    """Measure each of `THRESHOLDS` x `MIN_COMPONENTS_ML` x `MIN_PEAKS` on the scans that an evaluator predicts.

    The measures are Dice and lesion-wise F1 of main and sub-lesion together over the whole scan, as in ISLES'26. In a scan
    without lesion both are 1 if nothing is predicted and 0 otherwise, so healthy scans count too.

    Args:
        spacing_mm: Voxel size of the scans.
    """

    def __init__(self, spacing_mm: Sequence[float]) -> None:
        self.voxel_ml = prod(spacing_mm) / 1000
        self.scores: list[NDArray[np.float64]] = []
        self.has_lesion = False

    def attach(self, evaluator: Engine) -> None:
        """Score the scans of `evaluator` from its logits, before its post-processing turns them into masks."""
        evaluator.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.score)

    def score(self, evaluator: Engine) -> None:
        """Score the scans of one iteration: logits `pred` `(B, 3, H, W, D)` and label maps `label` `(B, 1, H, W, D)`."""
        output: Any = evaluator.state.output
        for logits, label in zip(output["pred"], output["label"], strict=True):
            truth = label[0].as_subclass(torch.Tensor) > 0
            self.has_lesion |= bool(truth.any())
            lesion = logits.as_subclass(torch.Tensor).softmax(dim=0)[1:].sum(0)
            self.scores.append(score_rules(lesion, truth, self.voxel_ml))

    def average_scores(self) -> pd.DataFrame:
        """Return the means over scans, one row per decision rule: its attributes, `dice`, `lesion_f1`.

        Raises:
            UserError: when no scan had a lesion.
        """
        if not self.has_lesion:
            raise UserError("no held-out scan has a lesion; expected some to choose the threshold on. Check the split.")
        points = pd.DataFrame(product(THRESHOLDS, MIN_COMPONENTS_ML, MIN_PEAKS), columns=ATTRIBUTES)
        dice, f1 = np.mean(self.scores, axis=0).reshape(-1, 2).T
        return points.assign(dice=dice, lesion_f1=f1)


def score_rules(probability: torch.Tensor, truth: torch.Tensor, voxel_ml: float) -> NDArray[np.float64]:
    """Return Dice and lesion-wise F1 of one scan for every decision rule.

    Args:
        probability: Probability of main and sub together, `(H, W, D)`.
        truth: Mask of main and sub together, `(H, W, D)`.
        voxel_ml: Volume of a voxel in milliliters.

    Returns:
        Array `(len(THRESHOLDS), len(MIN_COMPONENTS_ML), len(MIN_PEAKS), 2)`.
    """
    box = bounding_box((probability >= THRESHOLDS[0]) | truth)  # only saves time
    likely, true = probability[box].numpy(force=True), truth[box].numpy(force=True)
    least = [least_voxels(volume_ml, voxel_ml) for volume_ml in MIN_COMPONENTS_ML]
    return np.stack([score_threshold(likely, threshold, true, least) for threshold in THRESHOLDS])


def score_threshold(
    likely: NDArray[np.floating[Any]], threshold: float, true: NDArray[np.bool_], least: Sequence[int]
) -> NDArray[np.float64]:
    """Return Dice and lesion-wise F1 at one threshold, for each minimum size and minimum peak, `(S, len(MIN_PEAKS), 2)`.

    Args:
        likely: Probability of a lesion, `(H, W, D)`.
        threshold: Minimum probability of a lesion voxel.
        true: True mask, `(H, W, D)`.
        least: The S minimum sizes in voxels.
    """
    lesions = pair_lesions(likely >= threshold, true, ISLES26_NEIGHBORS)
    numbers, sizes = components(likely >= threshold)
    peak = peaks(likely, numbers, len(sizes))[1:]
    return np.array(
        [
            [score_pairs(lesions.keep((lesions.pred_voxels >= voxels) & (peak >= min_peak))) for min_peak in MIN_PEAKS]
            for voxels in least
        ]
    )


def score_pairs(lesions: LesionPairs) -> tuple[float, float]:
    """Return Dice and lesion-wise F1; both are 1 if there is neither a true nor a predicted lesion."""
    voxels = lesions.pred_voxels.sum() + lesions.true_voxels.sum()
    if not voxels:
        return 1.0, 1.0
    return float(2 * lesions.shared_voxels.sum() / voxels), compute_lesion_f1(*find_matched(lesions, ISLES26_MIN_IOU))


def find_best_decision(table: pd.DataFrame) -> Decision:
    """Return the simplest of the best rules.

    Keep the rules within `CHANCE` of the highest Dice, then those within `CHANCE` of their highest lesion-wise F1. The simplest
    rule has the threshold nearest to one half, then the lowest minimum volume, then the lowest minimum peak.
    """
    good = table.assign(change=(table["threshold"] - PLAIN.threshold).abs()).round(DECIMALS)
    for measure in ("dice", "lesion_f1"):
        good = good[good[measure] >= good[measure].max() - CHANCE]
    ranked = good.sort_values(["change", "min_component_ml", "min_peak", "threshold"])
    return Decision(**{name: float(table.loc[ranked.index[0], name]) for name in ATTRIBUTES})
