"""How a prediction is scored against its truth, per scan; what empty masks mean is said here and nowhere else.

Lesion classes: `main` is label 1, `sub` label 2, `both` is either. Dice = 2 |P ∩ T| / (|P| + |T|) over the voxels of a
scan. Where the truth is empty there is no Dice: it is NaN and left out of means, and what was predicted there all the
same is reported as false-alarm volume. The seed study scored each slice instead, see `seed_dice`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_dice

CLASSES: dict[str, tuple[int, ...]] = {"main": (1,), "sub": (2,), "both": (1, 2)}
# The seed study's guard against division by zero; it makes an empty slice score 0, not 1.
SEED_EPSILON = 1e-5


def class_mask(labels: torch.Tensor, name: str) -> torch.Tensor:
    """Return where a label map has one of the lesion classes, as booleans of the same shape.

    Raises:
        ValueError: on an unknown class.
    """
    if name not in CLASSES:
        raise ValueError(f"got the lesion class {name!r}; allowed are {', '.join(CLASSES)}.")
    return torch.isin(labels.as_subclass(torch.Tensor), torch.tensor(CLASSES[name], device=labels.device))


def class_pair(name: str) -> Callable[[Sequence[Mapping[str, Any]]], tuple[list[torch.Tensor], list[torch.Tensor]]]:
    """Return the function that takes prediction and truth of one lesion class out of an engine's output, for MONAI metrics."""

    def pairs(output: Sequence[Mapping[str, Any]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        return tuple([class_mask(item[key], name).float() for item in output] for key in ("pred", "label"))  # type: ignore[return-value]

    return pairs


def dice(pred: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the Dice of two masks of any equal shape; NaN where the truth is empty."""
    return float(compute_dice(pred[None, None].float(), truth[None, None].float(), ignore_empty=True))


def seed_dice(pred: torch.Tensor, truth: torch.Tensor, slices: torch.Tensor) -> float:
    """Return the seed study's score: the mean over slices of 2 TP / (P + T + 1e-5).

    Slices without truth score 0, which caps a perfect prediction at the share of slices that have one. Comparable with
    the seed's table only.

    Args:
        pred: mask `(X, Y, Z)` with axial slices along Z.
        truth: mask of the same shape.
        slices: which slices count, `(Z,)`; the seed counted those with any lesion.
    """
    overlap, predicted, true = ((mask.sum((0, 1)))[slices].double() for mask in (pred & truth, pred, truth))
    return float((2 * overlap / (predicted + true + SEED_EPSILON)).mean()) if slices.any() else float("nan")


def score_scan(pred: torch.Tensor, truth: torch.Tensor, voxel_ml: float) -> dict[str, float]:
    """Score the label map of one scan.

    Args:
        pred: labels `(X, Y, Z)`.
        truth: labels `(X, Y, Z)` on the same grid.
        voxel_ml: volume of a voxel in milliliters.

    Returns:
        For main, sub and both: `dice_*`, `truth_*_ml`, `pred_*_ml`; for main and sub `seed_slice_dice_*`.

    Raises:
        ValueError: when the grids differ.
    """
    if pred.shape != truth.shape:
        raise ValueError(f"got a prediction of {tuple(pred.shape)} voxels; expected {tuple(truth.shape)}, the truth's grid.")
    scores: dict[str, float] = {}
    slices = (truth > 0).flatten(0, 1).any(dim=0)
    for name in CLASSES:
        masks = class_mask(pred, name), class_mask(truth, name)
        scores[f"dice_{name}"] = dice(*masks)
        scores[f"truth_{name}_ml"], scores[f"pred_{name}_ml"] = (float(mask.sum()) * voxel_ml for mask in reversed(masks))
        if name != "both":
            scores[f"seed_slice_dice_{name}"] = seed_dice(*masks, slices=slices)
    return scores


def voxel_volume_ml(affine: torch.Tensor) -> float:
    """Return the volume of a voxel in milliliters from its affine in mm."""
    return float(abs(np.linalg.det(np.asarray(affine, dtype=float)[:3, :3]))) / 1000
