"""The operating point: the search measures what the decision does, and chooses as it says."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.data import MetaTensor
from scipy.ndimage import gaussian_filter

from strokelesion.pipeline.operating_point import (
    MIN_COMPONENTS_ML,
    THRESHOLDS,
    OperatingPoint,
    OperatingPointSearch,
    best_point,
    dice_table,
)
from strokelesion.transforms import DecideLesionsd

SPACING_MM = (2.0, 2.5, 4.0)
SHAPE = (13, 14, 15)


def scan(seed, blur=1.0):
    """A prediction of many blobs and a truth that has some of them and others, also where nothing is predicted."""
    rng = np.random.default_rng(seed)
    blobs = gaussian_filter(rng.standard_normal((2, 3, *SHAPE)), (0, 0, blur, blur, blur))
    prediction = torch.as_tensor(12 * blobs[0], dtype=torch.float32)
    prediction[0] += 1.5
    truth = torch.as_tensor(blobs[0, 1] + blobs[1, 1] > 0.35)
    truth[0, 0, 0] = True
    return {"pred": MetaTensor(prediction.softmax(0), affine=torch.diag(torch.tensor([*SPACING_MM, 1]))), "label": truth[None]}


def dice_as_decided(item, threshold, min_component_ml):
    decided = DecideLesionsd("pred", threshold, min_component_ml)(item)["pred"] > 0
    if not decided.any() and not item["label"].any():
        return 1.0
    return 2 * float((decided & item["label"]).sum()) / float(decided.sum() + item["label"].sum())


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 1.5))
def test_what_the_search_measures_is_what_the_decision_does(seed, blur):
    item = scan(seed, blur)
    if seed % 2:
        item["label"] = torch.zeros_like(item["label"])
    measured = dice_table(item["pred"][1:].as_tensor().sum(0), item["label"][0], np.prod(SPACING_MM) / 1000)
    expected = [[dice_as_decided(item, t, ml) for ml in MIN_COMPONENTS_ML] for t in THRESHOLDS]
    np.testing.assert_allclose(measured, expected)


def test_nothing_predicted_is_dice_zero_at_every_point():
    truth = torch.zeros(SHAPE, dtype=torch.bool)
    truth[1, 2, 3] = True
    assert not dice_table(torch.zeros(SHAPE), truth, 0.02).any()


def searched(*iterations):
    """Return a search that followed an evaluator over iterations of items."""
    search = OperatingPointSearch(SPACING_MM)
    evaluator = Engine(lambda engine, batch: batch)
    search.attach(evaluator)
    evaluator.run(iterations)
    return search


def test_the_table_is_the_mean_over_all_scans_and_healthy_ones_vote_for_finding_nothing():
    first, second, healthy = scan(0), scan(1), scan(2)
    healthy["label"] = torch.zeros_like(healthy["label"])
    healthy["pred"][1:] *= 0.6
    search = searched([first], [healthy, second])
    assert len(search.scores) == 3
    assert set(np.unique(search.scores[1])) == {0, 1}
    table = search.table()
    assert len(table) == len(THRESHOLDS) * len(MIN_COMPONENTS_ML)
    row = table.query("threshold == 0.35 and min_component_ml == 0.1").iloc[0]
    assert row["dice"] == pytest.approx(np.mean([dice_as_decided(item, 0.35, 0.1) for item in (first, healthy, second)]))
    with pytest.raises(ValueError, match="no held-out scan has a lesion"):
        searched([healthy]).table()


def test_the_sizes_and_thresholds_are_those_of_the_documentation():
    assert (min(THRESHOLDS), max(THRESHOLDS), len(THRESHOLDS)) == (0.1, 0.9, 17)
    assert list(THRESHOLDS) == sorted(set(THRESHOLDS))
    assert OperatingPoint() == OperatingPoint(0.5, 0.0)
    assert OperatingPoint().threshold in THRESHOLDS
    assert OperatingPoint().min_component_ml in MIN_COMPONENTS_ML


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([(0.1, 0.5, 0.7), (0.5, 0.0, 0.6)], (0.1, 0.5)),
        ([(0.5, 0.0, 0.6), (0.4, 0.0, 0.7), (0.55, 0.5, 0.7)], (0.55, 0.5)),
        ([(0.55, 0.2, 0.7), (0.55, 0.1, 0.7), (0.55, 0.5, 0.7)], (0.55, 0.1)),
        ([(0.55, 0.0, 0.7), (0.45, 0.0, 0.7)], (0.45, 0.0)),
        ([(0.9, 0.0, 0.7 + 1e-12), (0.5, 0.0, 0.7)], (0.5, 0.0)),
        ([(0.3, 0.2, 0.704), (0.5, 0.05, 0.7), (0.5, 0.02, 0.69)], (0.5, 0.05)),
    ],
)
def test_the_highest_dice_wins_and_of_those_as_good_the_plainest(rows, best):
    """Whatever the order of the rows; what differs by rounding is equal."""
    for order in (rows, rows[::-1]):
        assert best_point(pd.DataFrame(order, columns=["threshold", "min_component_ml", "dice"])) == OperatingPoint(*best)
