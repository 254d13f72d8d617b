"""From class probabilities to a label map: the threshold for lesion voxels, and the removal of unlikely lesions.

The command `release` chooses the values (`pipeline/evaluation/decision_search.py`) and stores them in the model's description.
Options override them (`pipeline/options/model_options.py`). For a new scan, `Results.write` in `pipeline/inference/results.py`
applies the rule on the scan's own grid.
"""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from strokelesion.transforms.components import components, least_voxels, peaks
from strokelesion.transforms.geometry import voxel_ml


class DecideLesionsd(MapTransform):
    """Turn class probabilities into the label map {0 background, 1 main, 2 sub}.

    1. A voxel is lesion where p_main + p_sub >= `threshold`.
    2. Its class is the more probable of the two, or main if both are equal.
    3. 26-connected components of both classes together become background if they are smaller than `min_component_ml`, or if
       their maximum of p_main + p_sub is below `min_peak`. With two thresholds, outlines are generous, but each lesion needs
       a voxel of high probability (hysteresis thresholding: Canny, IEEE PAMI 1986).

    With the defaults and only one lesion class, this is argmax.

    Args:
        keys: Probabilities of background, main and sub `(3, X, Y, Z)`, or of background and any other classes.
        threshold: Least probability of a lesion voxel, above 0 and at most 1.
        min_component_ml: Least volume of a component in milliliters. Above 0, the probabilities must be a `MetaTensor`, whose
            affine gives the voxel volume.
        min_peak: Least maximum probability of a component, at most 1; it has no effect up to `threshold`.
    """

    def __init__(
        self, keys: KeysCollection, threshold: float = 0.5, min_component_ml: float = 0.0, min_peak: float = 0.0
    ) -> None:
        super().__init__(keys)
        self.threshold = threshold
        self.min_component_ml = min_component_ml
        self.min_peak = min_peak

    @property
    def rule(self) -> dict[str, float]:
        """Return the decision rule as a mapping from option to value."""
        return {name: getattr(self, name) for name in ("threshold", "min_component_ml", "min_peak")}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with label maps `(1, X, Y, Z)` as bytes."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = self.decide(sample[key])
        return sample

    def decide(self, probabilities: MetaTensor) -> torch.Tensor:
        """Return the label map `(1, X, Y, Z)` of probabilities `(C, X, Y, Z)`."""
        lesions = probabilities[1:]
        likely = lesions.sum(dim=0)
        labels = (1 + lesions.argmax(dim=0)) * (likely >= self.threshold)
        least = least_voxels(self.min_component_ml, voxel_ml(probabilities.affine)) if self.min_component_ml > 0 else 0
        if least or self.min_peak > self.threshold:
            labels = labels * self.is_believed(labels > 0, likely, least)
        return labels.to(torch.uint8)[None]

    def is_believed(self, mask: torch.Tensor, likely: torch.Tensor, least: int) -> torch.Tensor:
        """Return the components of a mask with at least `least` voxels and a peak of `min_peak` or more; all `(X, Y, Z)`."""
        numbers, sizes = components(mask)
        is_sure = peaks(likely.numpy(force=True), numbers, len(sizes)) >= self.min_peak
        return torch.as_tensor(((sizes >= least) & is_sure)[numbers], device=mask.device)


class FillBackgroundd(MapTransform):
    """Set the first channel of class probabilities to 1 minus the sum of the others, so that they sum to 1 in every voxel.

    Resampling to the scan's own grid leaves zeros in every class outside the network's field of view.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with probabilities `(C, X, Y, Z)` completed."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            probabilities = sample[key].clone()
            probabilities[0] = 1 - probabilities[1:].sum(dim=0)
            sample[key] = probabilities
        return sample
