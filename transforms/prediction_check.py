"""Reading and checks of a saved prediction before it is scored: grid of the scan, integer labels, probabilities in [0, 1]."""

import re
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import EnsureChannelFirst, MapTransform, Transform

from strokelesion.networks import UserError
from strokelesion.transforms.geometry import match_grid
from strokelesion.transforms.masks import MAIN, SUB, divide_components
from strokelesion.transforms.reading import read_named
from strokelesion.transforms.sample_error import source_of

LABELS = (0, MAIN, SUB)
# Probabilities are stored in single precision, and one of the three is computed as 1 minus the others.
PROBABILITY_TOLERANCE = 1e-4


class LoadPredictiond(MapTransform):
    """Load predictions `(C, X, Y, Z)`, whose classes lie along the fourth axis of the file, if it has one.

    Raises:
        SampleError: If a file is damaged or no image, see `read_named`.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its predictions in place of their paths."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            loaded = read_named(sample[key], str(sample[key]))
            sample[key] = EnsureChannelFirst(channel_dim=-1 if loaded.ndim > 3 else "no_channel")(loaded)
        return sample


class CheckPredictiond(Transform):
    """Refuse a predicted label map or class probabilities that cannot be scored.

    Reads `image`, the scan `(1, X, Y, Z)`, `pred`, the labels `(1, X, Y, Z)` in {0, 1, 2}, and optionally `probabilities` of
    lesion `(1, X, Y, Z)`, or of background, main and sub `(3, X, Y, Z)`.

    Args:
        divide: Source of the classes of a binary mask, whose name ends with `_mask` in BIDS: `masks` if all of it is main,
            `components` to divide it as `LabelLesionsd` divides a true mask.

    Raises:
        UserError: With the file, the problem and advice.
    """

    def __init__(self, divide: str = "masks") -> None:
        self.divide = divide

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with predicted labels as bytes and with the scan's affine for all predictions."""
        sample = dict(data)
        for key, check in (("pred", check_labels), ("probabilities", check_probabilities)):
            if key in sample:
                sample[key] = match_grid(sample["image"], sample[key])
                check(sample[key])
                # Affines that differ by rounding could otherwise lead to different axes in reorientation.
                sample[key].affine = sample["image"].affine
        sample["pred"] = sample["pred"].to(torch.uint8)
        is_binary = re.search(r"_mask\.[^/]*$", source_of(sample["pred"])) is not None and int(sample["pred"].max()) <= MAIN
        if self.divide == "components" and is_binary:
            sample["pred"] = divide_components(sample["pred"])
        return sample


def check_labels(pred: torch.Tensor) -> None:
    """Raise UserError unless a predicted label map `(1, X, Y, Z)` holds only labels."""
    values = pred.as_subclass(torch.Tensor)
    strange = values[~torch.isin(values, torch.tensor(LABELS, dtype=values.dtype))]
    if len(strange) or len(values) != 1:
        came = ", ".join(f"{value:g}" for value in sorted(set(strange.tolist()))[:5]) or f"{len(values)} channels"
        raise UserError(
            f"{source_of(pred)} holds {came}; expected one label map of 0 background, 1 main, 2 sub. Write labels, and "
            "keep probabilities in a file of their own."
        )


def check_probabilities(probabilities: torch.Tensor) -> None:
    """Raise UserError unless probabilities `(1 or 3, X, Y, Z)` are finite and in [0, 1]."""
    values = probabilities.as_subclass(torch.Tensor)
    if len(values) not in (1, len(LABELS)):
        raise UserError(
            f"{source_of(probabilities)} has {len(values)} channels; expected one of lesion, or "
            f"{len(LABELS)} along the last axis of the file: background, main, sub."
        )
    low, high = float(values.min()), float(values.max())
    # Comparisons with NaN are false, so NaN is refused too.
    if not (low >= -PROBABILITY_TOLERANCE and high <= 1 + PROBABILITY_TOLERANCE):
        raise UserError(
            f"{source_of(probabilities)} runs from {low:g} to {high:g}; expected probabilities from 0 to 1. Write softmax "
            "outputs, not logits."
        )
