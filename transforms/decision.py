"""From class probabilities to a label map: the threshold for lesion voxels, unlikely lesions, and one class for each lesion.

The command `release` chooses the values (`pipeline/evaluation/decision_search.py`) and stores them in the model's description.
Options override them (`pipeline/options/model_options.py`). For a new scan, `measure_scan` in
`pipeline/lesions/measuring.py` applies the rule on the scan's own grid. Training validates with the default rule. The brain
model has a threshold of its own (`transforms/brain.py`).
"""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from strokelesion.transforms.components import components, least_voxels, peaks
from strokelesion.transforms.geometry import voxel_ml


class DecideLesionsd(MapTransform):
    """Turn class probabilities into the label map {0 background, 1 main, 2 sub}.

    1. A voxel is lesion where p_main + p_sub >= `threshold`. The 26-connected components of these voxels are the lesions.
    2. Lesions become background if they are smaller than `min_component_ml`, or if their maximum of p_main + p_sub is below
       `min_peak`. With two thresholds, outlines are generous, but each lesion needs a voxel of high probability (hysteresis
       thresholding: Canny, IEEE PAMI 1986).
    3. A lesion belongs to one class as a whole: main if the sum of p_main over its voxels is at least that of p_sub, else sub.

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
        mask = likely >= self.threshold
        numbers, sizes = components(mask)
        least = least_voxels(self.min_component_ml, voxel_ml(probabilities.affine)) if self.min_component_ml > 0 else 0
        stays = sizes >= least
        if self.min_peak > self.threshold:
            stays &= peaks(likely.numpy(force=True), numbers, len(sizes)) >= self.min_peak
        labels = likely_classes(lesions[:, mask], numbers[mask.numpy(force=True)], len(sizes)) * stays
        decided = torch.as_tensor(labels[numbers][None], device=mask.device)
        return MetaTensor(decided, meta=probabilities.meta) if isinstance(probabilities, MetaTensor) else decided


def likely_classes(probabilities: torch.Tensor, numbers: NDArray[np.int32], count: int) -> NDArray[np.uint8]:
    """Return the class, from 1, with the largest sum of probabilities in each component; the first one if several are equal.

    Args:
        probabilities: Probabilities of the lesion classes in the lesion voxels `(C, N)`.
        numbers: Component numbers of these voxels `(N,)`, from 1.
        count: Number of components plus 1, for the background, whose class is 0.
    """
    sums = [np.bincount(numbers, of_class, count) for of_class in probabilities.numpy(force=True)]
    classes: NDArray[np.uint8] = (1 + np.argmax(sums, axis=0)).astype(np.uint8)
    classes[0] = 0
    return classes


class FillBackgroundd(MapTransform):
    """Set the first channel of class probabilities to 1 minus the sum of the others, so that they sum to 1 in every voxel.

    Resampling to the scan's own grid leaves zeros in every class outside the network's field of view.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with probabilities `(C, X, Y, Z)` completed in place, because a copy takes much memory."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key][0] = 1 - sample[key][1:].sum(dim=0)
        return sample
