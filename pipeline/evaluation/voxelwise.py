"""Voxel-wise measures: per axial slice, between surfaces, and from the ranking of probabilities.

`metrics` defines the values for empty masks. Of these measures only `keras_dice` accepts empty masks.
"""

from typing import Any

import numpy as np
from monai.metrics.utils import get_mask_edges, get_surface_distance
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

Mask = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]

# The Keras study adds this to avoid division by zero; an empty slice therefore scores 0, not 1.
KERAS_EPSILON = 1e-5


def keras_dice(pred: Mask, truth: Mask, slices: Mask) -> float:
    """Return the score of the Keras study: the mean over slices of 2 TP / (P + T + 1e-5).

    A slice that has only lesions of the other class scores 0. A perfect prediction therefore reaches only the share of
    slices that have this class. The score is comparable only with the table of the Keras study.

    Args:
        pred: Mask `(X, Y, Z)`, axial slices along Z.
        truth: Mask of the same shape.
        slices: Mask of the slices with a true lesion of any class, `(Z,)`, at least one; only these count.
    """
    shared, predicted, true = (mask.sum(axis=(0, 1))[slices] for mask in (pred & truth, pred, truth))
    return float((2 * shared / (predicted + true + KERAS_EPSILON)).mean())


def surface_distances_mm(pred: Mask, truth: Mask, affine: Floats) -> tuple[float, float]:
    """Return HD95 and average surface distance of two masks.

    The surface of a mask consists of its voxels with a face on the outside. d(A, B) are the distances from each surface
    voxel of A to the nearest surface voxel of B.

    - HD95 = max(95th percentile of d(P, T), 95th percentile of d(T, P))
    - ASD = mean of d(P, T) and d(T, P) taken together

    They equal MONAI's `compute_hausdorff_distance(percentile=95)` and `compute_average_surface_distance(symmetric=True)`.
    Here both use the same distances, whose computation takes most of the time.

    Args:
        pred: Mask `(X, Y, Z)`, not empty.
        truth: Mask of the same shape, not empty.
        affine: Affine from voxel indices to mm, `(4, 4)`.
    """
    pred_edge, true_edge = get_mask_edges(pred, truth, crop=False)
    spacing = voxel_sizes(affine)
    from_pred = get_surface_distance(pred_edge, true_edge, spacing=spacing)
    from_truth = get_surface_distance(true_edge, pred_edge, spacing=spacing)
    hd95 = max(np.percentile(distances, 95) for distances in (from_pred, from_truth))
    return float(hd95), float(np.concatenate([from_pred, from_truth]).mean(dtype=float))


def average_precision(probability: Floats, truth: Mask) -> float:
    """Return the area under the precision-recall curve of a probability map: scikit-learn's `average_precision_score`.

    The area uses steps. Straight lines between points of the curve suggest a precision that no threshold reaches (Davis &
    Goadrich 2006, doi:10.1145/1143844.1143874), above all in maps with few distinct values. ISLES'26 itself uses straight lines
    (trapezoids); the more distinct values, the smaller the difference.

    Args:
        probability: Probability of lesion, `(X, Y, Z)`, of the whole scan.
        truth: Mask of the same shape, not empty.
    """
    # Voxels that are less probable than every true voxel change nothing, and sorting them takes most of the time.
    ranked = probability >= probability[truth].min()
    return float(average_precision_score(truth[ranked], probability[ranked]))
