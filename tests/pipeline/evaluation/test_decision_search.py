"""The search for a decision rule: it measures what the decision does, and chooses as it says."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.engines.utils import IterationEvents
from scipy.ndimage import gaussian_filter

from strokelesion.pipeline.evaluation.decision_search import (
    MIN_COMPONENTS_ML,
    MIN_PEAKS,
    THRESHOLDS,
    DecisionSearch,
    find_best_decision,
    score_rules,
)
from strokelesion.pipeline.lesions.lesion_matching import compute_lesion_f1, find_matched, pair_lesions
from strokelesion.transforms import DecideLesionsd

SPACING_MM = (2.0, 2.5, 4.0)
SHAPE = (13, 14, 15)


def scan(seed, blur=1.0):
    """Logits of many blobs, their probabilities, and a truth that has some of them and others, also where none is predicted."""
    rng = np.random.default_rng(seed)
    blobs = gaussian_filter(rng.standard_normal((2, 3, *SHAPE)), (0, 0, blur, blur, blur))
    prediction = torch.as_tensor(12 * blobs[0], dtype=torch.float32)
    prediction[0] += 1.5
    truth = torch.as_tensor(blobs[0, 1] + blobs[1, 1] > 0.35)
    truth[0, 0, 0] = True
    probabilities = MetaTensor(prediction.softmax(0), affine=torch.diag(torch.tensor([*SPACING_MM, 1])))
    return {"logits": prediction, "pred": probabilities, "label": truth[None]}


def scores_as_decided(item, *rule):
    """Dice, and F1 with the functions that scoring uses."""
    decided = DecideLesionsd("pred", *rule)(item)["pred"] > 0
    if not decided.any() and not item["label"].any():
        return 1.0, 1.0
    pairs = pair_lesions(decided[0].numpy(), item["label"][0].numpy(), 26)
    dice = 2 * float((decided & item["label"]).sum()) / float(decided.sum() + item["label"].sum())
    return dice, compute_lesion_f1(*find_matched(pairs, 0.25))


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 1.5))
def test_what_the_search_measures_is_what_the_decision_does(seed, blur):
    item = scan(seed, blur)
    if seed % 2:
        item["label"] = torch.zeros_like(item["label"])
    measured = score_rules(item["pred"][1:].as_tensor().sum(0), item["label"][0], np.prod(SPACING_MM) / 1000)
    rules = product(THRESHOLDS, MIN_COMPONENTS_ML, MIN_PEAKS)
    np.testing.assert_allclose(measured.reshape(-1, 2), [scores_as_decided(item, *rule) for rule in rules])


def test_nothing_predicted_scores_zero_with_every_rule():
    truth = torch.zeros(SHAPE, dtype=torch.bool)
    truth[1, 2, 3] = True
    assert not score_rules(torch.zeros(SHAPE), truth, 0.02).any()


def searched(*iterations):
    """Return a search that followed an evaluator over batches of items; what the evaluator makes of its logits is its own."""

    def evaluate(engine, items):
        engine.state.output = {
            "pred": torch.stack([item["logits"] for item in items]),
            "label": torch.stack([item["label"] for item in items]),
        }
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        return {"pred": torch.zeros(1), "label": torch.zeros(1)}

    search = DecisionSearch(SPACING_MM)
    evaluator = Engine(evaluate)
    evaluator.register_events(*IterationEvents)
    search.attach(evaluator)
    evaluator.run(iterations)
    return search


def test_the_table_is_the_mean_over_all_scans_and_healthy_ones_vote_for_finding_nothing():
    first, second, healthy = scan(0), scan(1), scan(2)
    healthy["label"] = torch.zeros_like(healthy["label"])
    healthy["pred"][1:] *= 0.6
    healthy["pred"][0] = 1 - healthy["pred"][1:].sum(0)
    healthy["logits"] = healthy["pred"].as_tensor().log()
    search = searched([first], [healthy, second])
    assert len(search.scores) == 3
    assert set(np.unique(search.scores[1])) == {0, 1}
    table = search.average_scores()
    assert len(table) == len(THRESHOLDS) * len(MIN_COMPONENTS_ML) * len(MIN_PEAKS)
    row = table.query("threshold == 0.35 and min_component_ml == 0.1 and min_peak == 0.6").iloc[0]
    expected = np.mean([scores_as_decided(item, 0.35, 0.1, 0.6) for item in (first, healthy, second)], axis=0)
    assert row[["dice", "lesion_f1"]].tolist() == pytest.approx(expected)
    with pytest.raises(ValueError, match="no held-out scan has a lesion"):
        searched([healthy]).average_scores()


# Columns: threshold, least volume, least peak, Dice, lesion-wise F1.
@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([(0.1, 0.5, 0, 0.7, 0.5), (0.5, 0, 0, 0.6, 0.5)], 0),
        ([(0.5, 0, 0, 0.6, 0.5), (0.4, 0, 0, 0.7, 0.5), (0.55, 0.5, 0, 0.7, 0.5)], 2),
        ([(0.55, 0.2, 0, 0.7, 0.5), (0.55, 0.1, 0, 0.7, 0.5), (0.55, 0.5, 0, 0.7, 0.5)], 1),
        ([(0.55, 0, 0, 0.7, 0.5), (0.45, 0, 0, 0.7, 0.5)], 1),
        ([(0.9, 0, 0, 0.7 + 1e-12, 0.5), (0.5, 0, 0, 0.7, 0.5)], 1),
        ([(0.3, 0.2, 0, 0.704, 0.5), (0.5, 0.05, 0, 0.7, 0.5), (0.5, 0.02, 0, 0.69, 0.5)], 1),
        ([(0.5, 0, 0.7, 0.7, 0.4), (0.4, 0.1, 0.7, 0.697, 0.6), (0.45, 0.1, 0.7, 0.6, 0.9), (0.55, 0.2, 0.7, 0.7, 0.598)], 3),
        ([(0.4, 0, 0.9, 0.7, 0.5), (0.4, 0, 0.6, 0.7, 0.5), (0.4, 0, 0.8, 0.7, 0.5)], 1),
    ],
)
def test_the_highest_dice_wins_then_the_highest_f1_and_of_those_as_good_the_plainest(rows, best):
    """Whatever the order of the rows; what differs by rounding is equal."""
    for order in (rows, rows[::-1]):
        table = pd.DataFrame(order, columns=["threshold", "min_component_ml", "min_peak", "dice", "lesion_f1"])
        assert tuple(vars(find_best_decision(table)).values()) == rows[best][:3]
