"""Score a prediction against its truth, per scan: plain measures and the measures of three published scorers.

Lesion classes: `main` is label 1, `sub` label 2, `both` is either. With P predicted, T true and TP shared voxels of a
class, Dice = 2 TP / (P + T). Each scorer's columns start with its name:

- *keras*: the Keras study, the origin of this project. Mean of 2 TP / (P + T + 1e-5) over axial slices with any true lesion.
- *atlas22*: ATLAS R2.0 challenge 2022. Lesions are 6-connected; a lesion is found when at least one voxel overlaps. The
  volume difference follows its definition; the published `volume_difference` compares a single prediction with itself.
- *isles26*: ISLES'26 challenge. Lesions are 26-connected; a lesion is found when it is matched one-to-one with
  IoU >= 0.25 (panoptica's recognition quality). The PR-AUC uses steps, not trapezoids: see `average_precision`.

Values for empty masks (`-` is NaN: the measure is undefined, and means leave it out):

| measure                                              | both empty | only truth empty | only prediction empty |
|------------------------------------------------------|------------|------------------|-----------------------|
| dice                                                 | -          | -                | 0                     |
| precision                                            | -          | 0                | -                     |
| recall                                               | -          | -                | 0                     |
| hd95_mm, asd_mm                                      | -          | -                | -                     |
| atlas22_dice, atlas22_lesion_f1                      | 1          | 0                | 0                     |
| isles26_dice, isles26_lesion_f1                      | 1          | 0                | 0                     |
| isles26_pr_auc, which needs no predicted mask        | -          | -                | as usual              |
| keras_dice, when the scan has another true lesion    | 0          | 0                | 0                     |
| keras_dice, when the scan has no true lesion         | -          | -                | impossible            |
| keras_dice_limit: keras_dice of a perfect mask       | as keras_dice of the truth itself                     |
| volumes, lesion counts and their differences         | computed as usual: an empty mask counts 0             |
"""

from collections.abc import Callable, Mapping, Sequence
from math import nan
from typing import Any

import numpy as np
import torch
from monai.handlers import MeanDice
from numpy.typing import NDArray

from strokelesion.networks import UserError
from strokelesion.pipeline.evaluation.voxelwise import Floats, Mask, average_precision, keras_dice, surface_distances_mm
from strokelesion.pipeline.lesions.lesion_matching import (
    LesionPairs,
    compute_lesion_f1,
    find_matched,
    find_touched,
    pair_lesions,
)
from strokelesion.transforms.geometry import bounding_box, voxel_ml

Labels = NDArray[np.integer[Any]]
Scores = dict[str, float]

CLASSES: dict[str, tuple[int, ...]] = {"main": (1,), "sub": (2,), "both": (1, 2)}
MEASURES = (
    *("truth_ml", "pred_ml", "dice", "precision", "recall", "hd95_mm", "asd_mm", "volume_difference_ml"),
    *("keras_dice", "keras_dice_limit"),
    *("atlas22_dice", "atlas22_lesion_f1", "atlas22_volume_difference_voxels", "atlas22_lesion_count_difference"),
    *("isles26_dice", "isles26_lesion_f1", "isles26_absolute_volume_difference_ml", "isles26_lesion_count_difference"),
    "isles26_pr_auc",
)
# Rows of the table above for quotients and distances: both empty, only the truth empty, only the prediction empty.
EMPTY: dict[str, tuple[float, float, float]] = {
    "dice": (nan, nan, 0),
    "precision": (nan, 0, nan),
    "recall": (nan, nan, 0),
    "hd95_mm": (nan, nan, nan),
    "asd_mm": (nan, nan, nan),
    "atlas22_dice": (1, 0, 0),
    "atlas22_lesion_f1": (1, 0, 0),
    "isles26_dice": (1, 0, 0),
    "isles26_lesion_f1": (1, 0, 0),
}
ATLAS22_NEIGHBORS = 6
ISLES26_NEIGHBORS = 26
ISLES26_MIN_IOU = 0.25


def select_class(labels: torch.Tensor, name: str) -> torch.Tensor:
    """Return the mask of one lesion class in a label map, as booleans of the same shape.

    Raises:
        UserError: when the class is unknown.
    """
    if name not in CLASSES:
        raise UserError(f"got the lesion class {name!r}; allowed are {', '.join(CLASSES)}.")
    return torch.isin(labels.as_subclass(torch.Tensor), torch.tensor(CLASSES[name], device=labels.device))


def select_pairs(name: str) -> Callable[[Sequence[Mapping[str, Any]]], tuple[list[torch.Tensor], list[torch.Tensor]]]:
    """Return a function, for MONAI metrics, that extracts prediction and truth of one lesion class from an engine's output."""

    def pairs(output: Sequence[Mapping[str, Any]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        pred, truth = ([select_class(item[key], name).float() for item in output] for key in ("pred", "label"))
        return pred, truth

    return pairs


def mean_dice(lesion: str) -> MeanDice:
    """Return MONAI's handler for the mean Dice of one lesion class."""
    return MeanDice(output_transform=select_pairs(lesion))


def score_scan(
    pred: Labels, truth: Labels, affine: Floats, probabilities: Floats | None = None
) -> list[dict[str, float | str]]:
    """Score the label map of one scan.

    Args:
        pred: Integer labels 0, 1 and 2, `(X, Y, Z)` with axes in RAS order. Axial slices lie along Z.
        truth: Integer labels on the same grid.
        affine: Affine from voxel indices to mm, `(4, 4)`.
        probabilities: Probabilities of background, main and sub, `(3, X, Y, Z)`, or of any lesion, `(1, X, Y, Z)`, which give
            a PR-AUC for both only. None gives no PR-AUC.

    Returns:
        One row each for main, sub and both: `lesion`, then `MEASURES`. Signed differences are prediction minus truth.

    Raises:
        ValueError: when grids differ, or values are not labels.
    """
    check_grid(pred, truth, probabilities)
    ranking = score_rankings(probabilities, truth)
    pred, truth = crop_to_lesions(pred, truth)
    slices = np.any(truth > 0, axis=(0, 1))

    def scores(name: str) -> Scores:
        return score_masks(np.isin(pred, CLASSES[name]), np.isin(truth, CLASSES[name]), slices, affine)

    main, sub = scores("main"), scores("sub")
    # Without a sub-lesion, both equals main and is not measured again.
    both = scores("both") if sub["truth_ml"] or sub["pred_ml"] else main
    rows = {"main": main, "sub": sub, "both": both}
    return [{"lesion": name, **dict.fromkeys(MEASURES, nan), **rows[name], **ranking[name]} for name in CLASSES]


def true_lesions(pred: Labels, truth: Labels, affine: Floats) -> list[dict[str, float | bool]]:
    """Return the lesions of a truth and whether a prediction finds them; main and sub are not distinguished.

    Args:
        pred: Integer labels 0, 1 and 2, `(X, Y, Z)`.
        truth: Integer labels on the same grid.
        affine: Affine from voxel indices to mm, `(4, 4)`.

    Returns:
        One row per 26-connected lesion, in the order of their first voxels: `volume_ml`; `is_touched`, whether any
        predicted voxel overlaps it; `is_matched`, whether it is matched one-to-one with IoU >= 0.25.

    Raises:
        ValueError: as `score_scan`.
    """
    check_grid(pred, truth)
    pred, truth = crop_to_lesions(pred, truth)
    lesions = pair_lesions(pred > 0, truth > 0, ISLES26_NEIGHBORS)
    volumes_ml = lesions.true_voxels * voxel_ml(affine)
    found = zip(volumes_ml, find_touched(lesions)[0], find_matched(lesions, ISLES26_MIN_IOU)[0], strict=True)
    return [{"volume_ml": float(ml), "is_touched": bool(touch), "is_matched": bool(match)} for ml, touch, match in found]


def score_masks(pred: Mask, truth: Mask, slices: Mask, affine: Floats) -> Scores:
    """Return all of `MEASURES` except the PR-AUC for the masks of one class.

    Args:
        pred: Mask `(X, Y, Z)`.
        truth: Mask of the same shape.
        slices: Mask of the axial slices that have a true lesion of any class, `(Z,)`.
        affine: Affine from voxel indices to mm, `(4, 4)`.
    """
    ml = voxel_ml(affine)
    atlas22, isles26 = (pair_lesions(pred, truth, neighbors) for neighbors in (ATLAS22_NEIGHBORS, ISLES26_NEIGHBORS))
    predicted, true = int(pred.sum()), int(truth.sum())
    amounts = {
        "truth_ml": true * ml,
        "pred_ml": predicted * ml,
        "volume_difference_ml": (predicted - true) * ml,
        "keras_dice": keras_dice(pred, truth, slices) if slices.any() else nan,
        "keras_dice_limit": keras_dice(truth, truth, slices) if slices.any() else nan,
        "atlas22_volume_difference_voxels": abs(predicted - true),
        "atlas22_lesion_count_difference": atlas22.count_difference,
        "isles26_absolute_volume_difference_ml": abs(predicted - true) * ml,
        "isles26_lesion_count_difference": isles26.count_difference,
    }
    if predicted and true:
        return amounts | measure_agreement(pred, truth, affine, atlas22, isles26)
    case = 1 if predicted else 2 if true else 0
    return amounts | {name: values[case] for name, values in EMPTY.items()}


def measure_agreement(pred: Mask, truth: Mask, affine: Floats, atlas22: LesionPairs, isles26: LesionPairs) -> Scores:
    """Return the measures of `EMPTY` for two masks that are not empty, with their lesions as each challenge defines them."""
    shared, predicted, true = (int(np.count_nonzero(mask)) for mask in (pred & truth, pred, truth))
    dice = 2 * shared / (predicted + true)
    hd95_mm, asd_mm = surface_distances_mm(pred, truth, affine)
    return {
        **dict.fromkeys(("dice", "atlas22_dice", "isles26_dice"), dice),
        "precision": shared / predicted,
        "recall": shared / true,
        "hd95_mm": hd95_mm,
        "asd_mm": asd_mm,
        "atlas22_lesion_f1": compute_lesion_f1(*find_touched(atlas22)),
        "isles26_lesion_f1": compute_lesion_f1(*find_matched(isles26, ISLES26_MIN_IOU)),
    }


def score_rankings(probabilities: Floats | None, truth: Labels) -> dict[str, Scores]:
    """Return the PR-AUC of each class; a class without probabilities or true lesion has none."""
    scores: dict[str, Scores] = {name: {} for name in CLASSES}
    if probabilities is not None:
        for name, labels in CLASSES.items():
            mask = np.isin(truth, labels)
            if mask.any() and (len(probabilities) > 1 or name == "both"):
                likely = probabilities[list(labels)].sum(axis=0) if len(probabilities) > 1 else probabilities[0]
                scores[name]["isles26_pr_auc"] = average_precision(likely, mask)
    return scores


def crop_to_lesions(pred: Labels, truth: Labels) -> tuple[Labels, Labels]:
    """Crop two label maps to the box around the lesions of both.

    Cropping only saves time. Every measure except the PR-AUC counts lesion voxels alone, and surfaces and components treat
    everything outside a map as background.
    """
    box = bounding_box((pred > 0) | (truth > 0))
    return pred[box], truth[box]


def check_grid(pred: Labels, truth: Labels, probabilities: Floats | None = None) -> None:
    """Raise ValueError unless all arrays have the same grid and the label maps contain only labels."""
    of_classes = (3, *truth.shape) if probabilities is None else probabilities.shape
    if truth.ndim != 3 or pred.shape != truth.shape or of_classes not in ((1, *truth.shape), (3, *truth.shape)):
        raise ValueError(
            f"got shapes {(pred.shape, truth.shape, of_classes)} of prediction, truth and probabilities; expected (X, Y, Z) "
            "twice, then (1 or 3, X, Y, Z): bring them to one grid first."
        )
    for name, labels in {"prediction": pred, "truth": truth}.items():
        # A cast to integers would turn a mask value of 0.99999 into background, so other types are refused.
        if labels.dtype.kind not in "iu" or labels.min(initial=0) < 0 or labels.max(initial=0) > 2:
            raise ValueError(
                f"got a {name} of {labels.dtype} up to {labels.max(initial=0)}; allowed are the integers 0 (background), "
                "1 (main) and 2 (sub): make a label map of the masks first."
            )
