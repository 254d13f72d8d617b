"""Lesions as connected components: which of them a prediction finds, and what that makes of the lesion-wise F1.

There are two notions of a lesion that is found, and they differ in what they forgive:

- *touched*: at least one voxel of it overlaps the other mask. One predicted blob over ten lesions finds all ten.
- *matched*: it has a partner of its own in the other mask, overlapping with an intersection over union (IoU) of at
  least so much. One blob over ten lesions finds at most one of them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import generate_binary_structure, label

Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]

# Voxels are neighbors when they share a face (6 of them), or a face, an edge or a corner (26).
NEIGHBORS = {6: generate_binary_structure(3, 1), 26: generate_binary_structure(3, 3)}


@dataclass(frozen=True)
class LesionPairs:
    """The lesions of a truth (T) and of a prediction (P), and the pairs of them that overlap (N).

    Lesions are numbered from 0 in the order of their first voxels, the last axis running fastest.

    Attributes:
        true_voxels: size of each true lesion, `(T,)`.
        pred_voxels: size of each predicted lesion, `(P,)`.
        true_index: the true lesion of each pair, `(N,)`.
        pred_index: the predicted lesion of each pair, `(N,)`, ascending.
        shared_voxels: voxels that the pair has in common, `(N,)`, at least 1.
    """

    true_voxels: Counts
    pred_voxels: Counts
    true_index: Counts
    pred_index: Counts
    shared_voxels: Counts

    def kept(self, stays: Mask) -> "LesionPairs":
        """Return the same without the predicted lesions that do not stay, `(P,)`."""
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
        """How many lesions more or fewer the prediction has than the truth, without sign."""
        return abs(self.true_voxels.size - self.pred_voxels.size)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair, `(N,)`."""
        either = self.true_voxels[self.true_index] + self.pred_voxels[self.pred_index] - self.shared_voxels
        return self.shared_voxels / either


def pair_lesions(pred: Mask, truth: Mask, neighbors: int) -> LesionPairs:
    """Take two masks apart into lesions and list which overlap.

    Args:
        pred: mask `(X, Y, Z)`.
        truth: mask of the same shape.
        neighbors: connectivity, 6 or 26.
    """
    true_lesions, pred_lesions = (label(mask, NEIGHBORS[neighbors])[0] for mask in (truth, pred))
    true_voxels, pred_voxels = np.bincount(true_lesions[truth])[1:], np.bincount(pred_lesions[pred])[1:]
    # A pair of lesions is written as one number, so that all overlaps are counted in one pass over the shared voxels.
    shared = truth & pred
    numbers = (pred_lesions[shared].astype(np.int64) - 1) * true_voxels.size + true_lesions[shared] - 1
    pairs, shared_voxels = np.unique(numbers, return_counts=True)
    pred_index, true_index = np.divmod(pairs, max(true_voxels.size, 1))
    return LesionPairs(true_voxels, pred_voxels, true_index, pred_index, shared_voxels)


def touched(lesions: LesionPairs) -> tuple[Mask, Mask]:
    """Return which true lesions `(T,)` and which predicted ones `(P,)` overlap the other mask at all."""
    return (
        np.isin(np.arange(lesions.true_voxels.size), lesions.true_index),
        np.isin(np.arange(lesions.pred_voxels.size), lesions.pred_index),
    )


def matched(lesions: LesionPairs, min_iou: float) -> tuple[Mask, Mask]:
    """Return which true lesions `(T,)` and which predicted ones `(P,)` have a partner of their own.

    1. Take the pairs of lesions that overlap with at least `min_iou`, the best first; among equals the one whose
       predicted, then whose true lesion comes first.
    2. Join a pair when neither of the two has a partner yet.

    Source: `NaiveThresholdMatching` of panoptica (Kofler et al. 2023, arXiv:2312.02608).
    """
    iou = lesions.iou
    true_found, pred_found = np.zeros(lesions.true_voxels.size, bool), np.zeros(lesions.pred_voxels.size, bool)
    for pair in np.argsort(-iou, kind="stable")[: np.count_nonzero(iou >= min_iou)]:
        true, pred = lesions.true_index[pair], lesions.pred_index[pair]
        if not true_found[true] and not pred_found[pred]:
            true_found[true] = pred_found[pred] = True
    return true_found, pred_found


def lesion_f1(true_found: Mask, pred_found: Mask) -> float:
    """Return TP / (TP + (FP + FN) / 2), where there is a lesion at all.

    Args:
        true_found: `(T,)`; those found are TP, the others FN.
        pred_found: `(P,)`; those not found are FP.
    """
    hits, misses, false_alarms = true_found.sum(), (~true_found).sum(), (~pred_found).sum()
    return float(hits / (hits + (false_alarms + misses) / 2))
