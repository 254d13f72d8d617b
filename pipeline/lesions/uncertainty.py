"""How uncertain the result of a scan is, from its probabilities alone: which scan to look at first."""

from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Below it, the sum over a whole brain would count more than that near the lesions.
LEAST_PROBABILITY = 0.1


def estimate_uncertainty(lesion: NDArray[np.bool_], probability: NDArray[np.floating[Any]] | None) -> float:
    """Return the expected error of a mask: 1 - expected Dice, from 0 (certain) to 1.

        1 - 2 Σ_mask p / (voxels of the mask + Σ p)

    This is the Dice of the mask with a truth of which each voxel is drawn with its probability p, with expectations in place of
    numerator and denominator. Probabilities below `LEAST_PROBABILITY` are left out. For an empty mask, the value is the highest
    probability: the lesion that was nearest to being found.

    Args:
        lesion: Mask of all lesions `(X, Y, Z)`.
        probability: Probability of lesion `(X, Y, Z)`; without it, the value is nan.
    """
    if probability is None:
        return nan
    if not lesion.any():
        return float(probability.max())
    expected = float(probability[probability >= LEAST_PROBABILITY].sum())
    return 1 - 2 * float(probability[lesion].sum()) / (int(lesion.sum()) + expected)
