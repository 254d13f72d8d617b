"""The search for a model's decision rule on held-out scans: the threshold, the smallest component and the least peak."""

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
from scipy.ndimage import find_objects

from strokelesion.networks import UserError
from strokelesion.pipeline.evaluation.lesion_matching import LesionPairs, lesion_f1, matched, pair_lesions
from strokelesion.pipeline.models.description import Decision
from strokelesion.pipeline.runtime.files import DECIMALS
from strokelesion.transforms.decision import components, least_voxels, peaks

THRESHOLDS = tuple(percent / 100 for percent in range(10, 91, 5))
MIN_COMPONENTS_ML = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MIN_PEAKS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)


PLAIN = Decision()
ATTRIBUTES = list(Decision.model_fields)
# Mean Dice and mean F1 over some dozens of scans have a standard error of several hundredths.
CHANCE = 0.005
# A lesion is found when a predicted one of its own overlaps it with this intersection over union, as ISLES'26 has it.
MIN_IOU = 0.25
CONNECTIVITY = 26


class DecisionSearch:
    """Measure each of `THRESHOLDS` x `MIN_COMPONENTS_ML` x `MIN_PEAKS` on the scans that an evaluator predicts.

    The measures are Dice and lesion-wise F1 of main and sub-lesion together over the whole scan, as ISLES'26 counts them: in a
    scan without lesion both are 1 where nothing is found and 0 where anything is, so that healthy scans count, too.

    Args:
        spacing_mm: Voxel size of the scans.
    """

    def __init__(self, spacing_mm: Sequence[float]) -> None:
        self.voxel_ml = prod(spacing_mm) / 1000
        self.scores: list[NDArray[np.float64]] = []
        self.has_lesion = False

    def attach(self, evaluator: Engine) -> None:
        """Follow `evaluator`; its logits are looked at before its post-processing makes masks of them."""
        evaluator.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.score)

    def score(self, evaluator: Engine) -> None:
        """Score the scans of one iteration: logits `pred` `(B, 3, H, W, D)` and label maps `label` `(B, 1, H, W, D)`."""
        output: Any = evaluator.state.output
        for logits, label in zip(output["pred"], output["label"], strict=True):
            truth = label[0].as_subclass(torch.Tensor) > 0
            self.has_lesion |= bool(truth.any())
            lesion = logits.as_subclass(torch.Tensor).softmax(dim=0)[1:].sum(0)
            self.scores.append(score_table(lesion, truth, self.voxel_ml))

    def table(self) -> pd.DataFrame:
        """Return the mean over scans, one row a decision rule: its attributes, `dice`, `lesion_f1`.

        Raises:
            UserError: when no scan had a lesion.
        """
        if not self.has_lesion:
            raise UserError("no held-out scan has a lesion; expected some to choose the threshold on. Check the split.")
        points = pd.DataFrame(product(THRESHOLDS, MIN_COMPONENTS_ML, MIN_PEAKS), columns=ATTRIBUTES)
        dice, f1 = np.mean(self.scores, axis=0).reshape(-1, 2).T
        return points.assign(dice=dice, lesion_f1=f1)


def score_table(probability: torch.Tensor, truth: torch.Tensor, voxel_ml: float) -> NDArray[np.float64]:
    """Return Dice and lesion-wise F1 of one scan for every decision rule.

    Args:
        probability: of main and sub together, `(H, W, D)`.
        truth: where either is, `(H, W, D)`.
        voxel_ml: volume of a voxel in milliliters.

    Returns:
        `(len(THRESHOLDS), len(MIN_COMPONENTS_ML), len(MIN_PEAKS), 2)`.
    """
    box = box_of((probability >= THRESHOLDS[0]) | truth)
    likely, true = probability[box].numpy(force=True), truth[box].numpy(force=True)
    least = [least_voxels(volume_ml, voxel_ml) for volume_ml in MIN_COMPONENTS_ML]
    return np.stack([scores_of_believed(likely, threshold, true, least) for threshold in THRESHOLDS])


def scores_of_believed(
    likely: NDArray[np.floating[Any]], threshold: float, true: NDArray[np.bool_], least: Sequence[int]
) -> NDArray[np.float64]:
    """Return Dice and lesion-wise F1 at one threshold, for each way to believe lesions, `(S, len(MIN_PEAKS), 2)`.

    Args:
        likely: probability of a lesion, `(H, W, D)`.
        threshold: from which on a voxel is lesion.
        true: the truth, `(H, W, D)`.
        least: least sizes in voxels, S of them.
    """
    lesions = pair_lesions(likely >= threshold, true, CONNECTIVITY)
    numbers, sizes = components(torch.as_tensor(likely >= threshold))
    peak = peaks(likely, numbers, len(sizes))[1:]
    return np.array(
        [
            [scores(lesions.kept((lesions.pred_voxels >= voxels) & (peak >= min_peak))) for min_peak in MIN_PEAKS]
            for voxels in least
        ]
    )


def scores(lesions: LesionPairs) -> tuple[float, float]:
    """Return Dice and lesion-wise F1."""
    return dice(lesions), f1(lesions)


def dice(lesions: LesionPairs) -> float:
    """Return 2 TP / (P + T) in voxels; 1 where P and T are both 0."""
    both = lesions.pred_voxels.sum() + lesions.true_voxels.sum()
    return float(2 * lesions.shared_voxels.sum() / both) if both else 1.0


def f1(lesions: LesionPairs) -> float:
    """Return the lesion-wise F1 of `matched`; 1 where there is no lesion and none is predicted."""
    if not lesions.pred_voxels.size and not lesions.true_voxels.size:
        return 1.0
    return lesion_f1(*matched(lesions, MIN_IOU))


def box_of(mask: torch.Tensor) -> tuple[slice, slice, slice]:
    """Return the box around a mask `(H, W, D)`; one voxel where it is empty. It only saves time."""
    box: tuple[slice, slice, slice] | None = find_objects(mask.numpy(force=True).astype(np.uint8), max_label=1)[0]
    return box or (slice(0, 1), slice(0, 1), slice(0, 1))


def best_decision(table: pd.DataFrame) -> Decision:
    """Return the plainest of the rules with the highest lesion-wise F1 among those with the highest Dice, up to `CHANCE`.

    Plain is a threshold near one half, then a small least volume, then a low least peak.
    """
    good = table.assign(change=(table["threshold"] - PLAIN.threshold).abs()).round(DECIMALS)
    for measure in ("dice", "lesion_f1"):
        good = good[good[measure] >= good[measure].max() - CHANCE]
    ranked = good.sort_values(["change", "min_component_ml", "min_peak", "threshold"])
    return Decision(**{name: float(table.loc[ranked.index[0], name]) for name in ATTRIBUTES})
