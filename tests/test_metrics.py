"""Scores against plain loops, masks drawn by hand, and what empty masks mean."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from strokelesion.pipeline.metrics import class_mask, class_pair, dice, score_scan, seed_dice, voxel_volume_ml

LABELS = npst.arrays(np.uint8, (4, 5, 3), elements=st.integers(0, 2))


def dice_by_loops(pred, truth):
    both = p = t = 0
    for index in np.ndindex(*pred.shape):
        both += pred[index] and truth[index]
        p += pred[index]
        t += truth[index]
    return 2 * both / (p + t) if t else float("nan")


def seed_dice_by_loops(pred, truth, slices):
    scores = []
    for z in slices:
        tp = sum(pred[x, y, z] and truth[x, y, z] for x, y in np.ndindex(pred.shape[:2]))
        scores.append(2 * tp / (pred[..., z].sum() + truth[..., z].sum() + 1e-5))
    return np.mean(scores) if scores else float("nan")


@given(pred=LABELS, truth=LABELS)
def test_scores_equal_plain_loops(pred, truth):
    scores = score_scan(torch.tensor(pred), torch.tensor(truth), voxel_ml=0.5)
    for name, values in {"main": [1], "sub": [2], "both": [1, 2]}.items():
        p, t = np.isin(pred, values), np.isin(truth, values)
        assert scores[f"dice_{name}"] == pytest.approx(dice_by_loops(p, t), nan_ok=True)
        assert scores[f"truth_{name}_ml"] == t.sum() / 2
        assert scores[f"pred_{name}_ml"] == p.sum() / 2
        if name != "both":
            lesion_slices = [z for z in range(3) if truth[..., z].any()]
            expected = seed_dice_by_loops(p, t, lesion_slices)
            assert scores[f"seed_slice_dice_{name}"] == pytest.approx(expected, nan_ok=True)


def test_an_answer_derived_by_hand():
    truth = torch.zeros(6, 7, 3, dtype=torch.uint8)
    truth[1:4, 1:5, 1] = 1  # 12 voxels
    truth[5, 6, 2] = 2
    pred = torch.zeros_like(truth)
    pred[2:4, 1:5, 1] = 1  # 8 of the 12
    pred[0, 0, 0] = 1
    scores = score_scan(pred, truth, voxel_ml=0.001)
    assert scores["dice_main"] == pytest.approx(2 * 8 / (12 + 9))
    assert scores["dice_sub"] == 0
    assert scores["dice_both"] == pytest.approx(2 * 8 / (13 + 9))
    assert scores["truth_both_ml"] == pytest.approx(0.013)
    # Slices 1 and 2 have lesion; slice 2 has no main lesion and counts 0.
    assert scores["seed_slice_dice_main"] == pytest.approx((2 * 8 / 20) / 2, abs=1e-5)


@given(mask=npst.arrays(bool, (4, 5, 3)))
def test_a_perfect_prediction_scores_one_and_the_order_of_voxels_does_not_matter(mask):
    mask[0, 0, 0] = True
    assert dice(torch.tensor(mask), torch.tensor(mask)) == 1
    shuffled = np.random.default_rng(0).permutation(mask.ravel()).reshape(mask.shape)
    turned = dice(torch.tensor(shuffled).flip(0), torch.tensor(mask).flip(0))
    assert turned == dice(torch.tensor(shuffled), torch.tensor(mask))


@pytest.mark.parametrize("predicted", [0, 5])
def test_an_empty_truth_has_no_dice(predicted):
    pred = torch.zeros(6, 7, 3, dtype=torch.uint8)
    pred.view(-1)[:predicted] = 1
    scores = score_scan(pred, torch.zeros_like(pred), 1.0)
    assert np.isnan(scores["dice_main"])
    assert np.isnan(scores["seed_slice_dice_main"])
    assert scores["pred_main_ml"] == predicted


def test_the_seeds_score_caps_a_perfect_prediction_at_the_share_of_slices_with_the_class():
    truth = torch.zeros(6, 7, 4, dtype=torch.bool)
    truth[..., 0] = True
    assert seed_dice(truth, truth, torch.ones(4, dtype=torch.bool)) == pytest.approx(1 / 4, abs=1e-5)


def test_another_grid_and_an_unknown_class_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 4, 5\).*\(5, 4, 3\)"):
        score_scan(torch.zeros(3, 4, 5), torch.zeros(5, 4, 3), 1.0)
    with pytest.raises(ValueError, match="main, sub, both"):
        class_mask(torch.zeros(3), "rim")


def test_pairs_for_monai_metrics_take_one_class():
    output = [{"pred": torch.tensor([[0, 1, 2]]), "label": torch.tensor([[1, 1, 2]])}]
    (pred,), (label,) = class_pair("main")(output)
    assert pred.tolist() == [[0, 1, 0]]
    assert label.tolist() == [[1, 1, 0]]


def test_voxel_volume_is_the_determinant_whatever_the_orientation():
    oblique = np.array([[0, -3, 0, 9], [1.6, 0, 1.2, 9], [1.2, 0, -1.6, 9], [0, 0, 0, 1]])
    assert voxel_volume_ml(torch.tensor(oblique)) == pytest.approx(0.012)
