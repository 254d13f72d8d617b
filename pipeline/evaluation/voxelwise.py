"""Measures that compare voxel by voxel: per axial slice, from surface to surface, and by the rank of probabilities.

What takes the place of a measure where a mask is empty is said in `metrics`; none of these is asked then.
"""

from typing import Any

import numpy as np
from monai.metrics.utils import get_mask_edges, get_surface_distance
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]

# The seed study's guard against division by zero; it makes an empty slice score 0, not 1.
SEED_EPSILON = 1e-5


def seed_dice(pred: Mask, truth: Mask, slices: Mask) -> float:
    """Return the seed study's score: the mean over slices of 2 TP / (P + T + 1e-5).

    A slice with a lesion of the other class only scores 0, which caps a perfect prediction at the share of slices that
    have this class. Comparable with the seed's table only.

    Args:
        pred: mask `(X, Y, Z)`, axial slices along Z.
        truth: mask of the same shape.
        slices: which slices count, `(Z,)`, at least one: those with a true lesion of any class.
    """
    shared, predicted, true = (mask.sum(axis=(0, 1))[slices] for mask in (pred & truth, pred, truth))
    return float((2 * shared / (predicted + true + SEED_EPSILON)).mean())


def surface_distances_mm(pred: Mask, truth: Mask, affine: Floats) -> tuple[float, float]:
    """Return HD95 and average surface distance of two masks.

    The surface of a mask is its voxels with a face on the outside; d(A, B) are the distances of the surface voxels of A
    from the nearest one of B.

    - HD95 = max(95th percentile of d(P, T), 95th percentile of d(T, P))
    - ASD = mean of d(P, T) and d(T, P) taken together

    Both are what MONAI's `compute_hausdorff_distance(percentile=95)` and `compute_average_surface_distance(symmetric=True)`
    give; here they share the distances, which take most of the time.

    Args:
        pred: mask `(X, Y, Z)`, not empty.
        truth: mask of the same shape, not empty.
        affine: from voxel indices to mm, `(4, 4)`.
    """
    pred_edge, true_edge = get_mask_edges(pred, truth, crop=False)
    spacing = voxel_sizes(affine)
    from_pred = get_surface_distance(pred_edge, true_edge, spacing=spacing)
    from_truth = get_surface_distance(true_edge, pred_edge, spacing=spacing)
    hd95 = max(np.percentile(distances, 95) for distances in (from_pred, from_truth))
    return float(hd95), float(np.concatenate([from_pred, from_truth]).mean(dtype=float))


def average_precision(probability: Floats, truth: Mask) -> float:
    """Return the area under the precision-recall curve of a probability map.

    Average precision: the mean, over the true voxels, of the precision when all voxels at least as probable as this one
    are called lesion. It equals scikit-learn's `average_precision_score`, with two sorts in place of an index sort.
    The area is that of the steps: a straight line between two points of the curve claims precision that no threshold
    reaches (Davis & Goadrich 2006, doi:10.1145/1143844.1143874), most of all in maps with few distinct values.
    ISLES'26 itself joins them by straight lines (trapezoids); the finer the map, the closer the two.

    Args:
        probability: of lesion, `(X, Y, Z)`, of the whole scan.
        truth: mask of the same shape, not empty.
    """
    at_true = np.sort(probability[truth])
    # Voxels less probable than every true voxel are called lesion only when no true one is left to find.
    at_all = np.sort(probability[probability >= at_true[0]])
    true_called, called = (ranked.size - np.searchsorted(ranked, at_true) for ranked in (at_true, at_all))
    return float((true_called / called).mean())
