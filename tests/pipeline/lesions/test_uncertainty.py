"""The uncertainty of a scan: by hand, and against the Dice with truths drawn from the probabilities."""

import numpy as np
import pytest

from strokelesion.pipeline.lesions.uncertainty import LEAST_PROBABILITY, estimate_uncertainty


def test_uncertainty_by_hand():
    probability = np.zeros((3, 4, 5))
    probability[0, 0, :2], probability[1, 1, 1], probability[2, 3, 4] = 0.9, 0.4, LEAST_PROBABILITY / 2
    lesion = probability > 0.5
    assert estimate_uncertainty(lesion, probability) == pytest.approx(1 - 2 * 1.8 / (2 + 2.2))
    assert estimate_uncertainty(lesion, lesion.astype(np.float32)) == 0
    assert estimate_uncertainty(np.zeros_like(lesion), probability) == 0.9  # what was nearest to being found
    assert estimate_uncertainty(np.zeros_like(lesion), np.zeros((3, 4, 5))) == 0


def test_uncertainty_is_the_mean_error_over_truths_drawn_from_the_probabilities():
    rng = np.random.default_rng(0)
    probability = rng.uniform(LEAST_PROBABILITY, 1, (15, 20, 25))
    lesion = probability > 0.5
    truths = rng.uniform(size=(50, *lesion.shape)) < probability
    errors = [1 - 2 * (truth & lesion).sum() / (truth.sum() + lesion.sum()) for truth in truths]
    assert estimate_uncertainty(lesion, probability) == pytest.approx(np.mean(errors), abs=0.005)
