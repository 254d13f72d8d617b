"""Find the lesions (connected components) that a prediction detects, and compute the lesion-wise F1.

There are two definitions of a found lesion. The second is stricter:

- *touched*: at least one voxel overlaps the other mask. One predicted component over ten lesions finds all ten.
- *matched*: the lesion has its own partner in the other mask, one-to-one, with a minimum intersection over union (IoU).
  One predicted component over ten lesions finds at most one of them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strokelesion.transforms.components import components

Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class LesionPairs:
    """Lesions of a truth (T) and of a prediction (P), and the pairs of them that overlap (N).

    Lesions are numbered from 0 in the order of their first voxels. The last axis runs fastest.

    Attributes:
        true_voxels: Voxel count of each true lesion, `(T,)`.
        pred_voxels: Voxel count of each predicted lesion, `(P,)`.
        true_index: Number of the true lesion of each pair, `(N,)`.
        pred_index: Number of the predicted lesion of each pair, `(N,)`, ascending.
        shared_voxels: Count of the voxels that both lesions of a pair contain, `(N,)`, at least 1.
    """

    true_voxels: Counts
    pred_voxels: Counts
    true_index: Counts
    pred_index: Counts
    shared_voxels: Counts

    def keep(self, stays: Mask) -> "LesionPairs":
        """Return the same without the predicted lesions for which `stays`, `(P,)`, is false."""
        of_pairs = stays[self.pred_index]
        renumbered = np.cumsum(stays) - 1
        return LesionPairs(
            self.true_voxels,
            self.pred_voxels[stays],
            self.true_index[of_pairs],
            renumbered[self.pred_index[of_pairs]],
            self.shared_voxels[of_pairs],
        )

    @property
    def count_difference(self) -> int:
        """Return the absolute difference between the numbers of true and predicted lesions."""
        return abs(self.true_voxels.size - self.pred_voxels.size)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Return the intersection over union of each pair, `(N,)`."""
        either = self.true_voxels[self.true_index] + self.pred_voxels[self.pred_index] - self.shared_voxels
        return self.shared_voxels / either


def pair_lesions(pred: Mask, truth: Mask, neighbors: int) -> LesionPairs:
    """Return the lesions of two masks and the pairs that overlap.

    Args:
        pred: Mask `(X, Y, Z)`.
        truth: Mask of the same shape.
        neighbors: Connectivity, 6 or 26.
    """
    (true_lesions, true_voxels), (pred_lesions, pred_voxels) = (components(mask, neighbors) for mask in (truth, pred))
    true_voxels, pred_voxels = true_voxels[1:], pred_voxels[1:]
    # Each pair of lesions is encoded as one number, so that one pass over the shared voxels counts all overlaps.
    shared = truth & pred
    numbers = (pred_lesions[shared].astype(np.int64) - 1) * true_voxels.size + true_lesions[shared] - 1
    pairs, shared_voxels = np.unique(numbers, return_counts=True)
    pred_index, true_index = np.divmod(pairs, max(true_voxels.size, 1))
    return LesionPairs(true_voxels, pred_voxels, true_index, pred_index, shared_voxels)


def find_touched(lesions: LesionPairs) -> tuple[Mask, Mask]:
    """Return which true lesions `(T,)` and which predicted lesions `(P,)` overlap the other mask in at least one voxel."""
    return (
        np.isin(np.arange(lesions.true_voxels.size), lesions.true_index),
        np.isin(np.arange(lesions.pred_voxels.size), lesions.pred_index),
    )


def find_matched(lesions: LesionPairs, min_iou: float) -> tuple[Mask, Mask]:
    """Return which true lesions `(T,)` and which predicted lesions `(P,)` are matched one-to-one.

    1. Sort the pairs with an IoU of at least `min_iou`, the highest IoU first. Pairs with equal IoU keep the order of
       their predicted lesions, then of their true lesions.
    2. Match each pair in turn, unless one of its lesions already has a partner.

    Source: `NaiveThresholdMatching` of panoptica (Kofler et al. 2023, arXiv:2312.02608).
    """
    iou = lesions.iou
    true_found, pred_found = np.zeros(lesions.true_voxels.size, bool), np.zeros(lesions.pred_voxels.size, bool)
    for pair in np.argsort(-iou, kind="stable")[: np.count_nonzero(iou >= min_iou)]:
        true, pred = lesions.true_index[pair], lesions.pred_index[pair]
        if not true_found[true] and not pred_found[pred]:
            true_found[true] = pred_found[pred] = True
    return true_found, pred_found


def compute_lesion_f1(true_found: Mask, pred_found: Mask) -> float:
    """Return TP / (TP + (FP + FN) / 2); there must be at least one lesion.

    Args:
        true_found: Whether each true lesion is found, `(T,)`: TP if it is, FN if not.
        pred_found: Whether each predicted lesion is found, `(P,)`: FP if not.
    """
    hits, misses, false_alarms = true_found.sum(), (~true_found).sum(), (~pred_found).sum()
    return float(hits / (hits + (false_alarms + misses) / 2))
