"""Scores of masks drawn by hand, what empty masks mean, and what must not change a score; references are tested apart."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from strokelesion.pipeline.evaluation.metrics import MEASURES, score_scan, select_class, select_pairs, true_lesions

NAN = np.nan
SHAPE = (5, 7, 6)
# Voxels of 2 x 3 x 5 mm, 0.03 ml; left and right swapped, as in many files.
AFFINE = np.diag([-2.0, 3.0, 5.0, 1.0])
LABELS = npst.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 0, 0, 0, 1, 2]))
# Greedy matching takes the first of two equal pairs, and which is first depends on the order of voxels.
ORDERED = "isles26_lesion_f1"


def empty(shape=SHAPE):
    return np.zeros(shape, np.uint8)


def rows(pred, truth, affine=AFFINE, probabilities=None):
    return {row["lesion"]: row for row in score_scan(pred, truth, affine, probabilities)}


def same(row, other, without=()):
    names = [name for name in MEASURES if name not in without]
    return [row[name] for name in names] == pytest.approx([other[name] for name in names], nan_ok=True)


def test_a_scan_derived_on_paper():
    truth, pred = empty(), empty()
    truth[1:4, 1:5, 1] = 1  # 3 x 4 = 12 voxels, 0.36 ml
    truth[4, 6, 2] = 2  # 1 voxel
    pred[2:4, 1:5, 1] = 1  # 8 of the 12
    pred[0, 0, 4] = 1  # and one where nothing is
    main, sub, both = rows(pred, truth).values()
    assert (main["truth_ml"], main["pred_ml"]) == pytest.approx((0.36, 0.27))
    assert main["volume_difference_ml"] == pytest.approx(-0.09)
    assert (main["precision"], main["recall"]) == pytest.approx((8 / 9, 8 / 12))
    assert main["dice"] == pytest.approx(2 * 8 / (12 + 9))
    assert both["dice"] == pytest.approx(2 * 8 / (13 + 9))
    # Slices 1 and 2 have a lesion; slice 2 has no main lesion and counts 0: (16 / 20 + 0) / 2.
    assert main["keras_dice"] == pytest.approx(0.4, abs=1e-5)
    # One lesion found, one false alarm: 1 / (1 + 1/2). IoU of the found one is 8 / 12.
    assert (main["atlas22_lesion_f1"], main["isles26_lesion_f1"]) == pytest.approx((2 / 3, 2 / 3))
    # Of both, one more is missed: 1 / (1 + 2/2).
    assert (both["atlas22_lesion_f1"], both["isles26_lesion_f1"]) == pytest.approx((1 / 2, 1 / 2))
    assert (both["atlas22_volume_difference_voxels"], both["atlas22_lesion_count_difference"]) == (4, 0)
    assert sub["recall"] == 0
    assert np.isnan(main["isles26_pr_auc"])


# A truth or prediction that is there is two voxels in two lesions, 0.06 ml, in slices 1 and 3.
@pytest.mark.parametrize(
    ("measure", "both_empty", "only_truth_empty", "only_pred_empty"),
    [
        ("truth_ml", 0, 0, 0.06),
        ("pred_ml", 0, 0.06, 0),
        ("dice", NAN, NAN, 0),
        ("precision", NAN, 0, NAN),
        ("recall", NAN, NAN, 0),
        ("hd95_mm", NAN, NAN, NAN),
        ("asd_mm", NAN, NAN, NAN),
        ("volume_difference_ml", 0, 0.06, -0.06),
        ("keras_dice", NAN, NAN, 0),
        ("atlas22_dice", 1, 0, 0),
        ("atlas22_lesion_f1", 1, 0, 0),
        ("atlas22_volume_difference_voxels", 0, 2, 2),
        ("atlas22_lesion_count_difference", 0, 2, 2),
        ("isles26_dice", 1, 0, 0),
        ("isles26_lesion_f1", 1, 0, 0),
        ("isles26_absolute_volume_difference_ml", 0, 0.06, 0.06),
        ("isles26_lesion_count_difference", 0, 2, 2),
        # All voxels are equally probable: precision is 2 of 210 wherever one is called.
        ("isles26_pr_auc", NAN, NAN, 2 / 210),
    ],
)
def test_what_empty_masks_mean(measure, both_empty, only_truth_empty, only_pred_empty):
    there = empty()
    there[1, 2, [1, 3]] = 1
    flat = np.full((3, *SHAPE), 1 / 3)
    cases = [(empty(), empty(), both_empty), (there, empty(), only_truth_empty), (empty(), there, only_pred_empty)]
    for pred, truth, expected in cases:
        scored = rows(pred, truth, probabilities=flat)
        assert scored["main"][measure] == pytest.approx(expected, nan_ok=True)
        assert scored["both"][measure] == pytest.approx(expected, nan_ok=True)


@given(pred=LABELS, truth=LABELS)
def test_probabilities_of_either_lesion_rank_both_as_those_of_each_do_and_say_nothing_of_one(pred, truth):
    truth[0, 0, 0], truth[1, 1, 1] = 1, 2
    # Quarters add up exactly.
    levels = np.random.default_rng(int(truth.sum())).integers(0, 3, (2, *SHAPE)) / 4
    of_each = rows(pred, truth, probabilities=np.stack([1 - levels.sum(0), *levels]))
    of_either = rows(pred, truth, probabilities=levels.sum(0, keepdims=True))
    assert of_either["both"] == pytest.approx(of_each["both"], nan_ok=True)
    for name in ("main", "sub"):
        assert np.isnan(of_either[name]["isles26_pr_auc"])
        assert same(of_either[name], of_each[name], without=["isles26_pr_auc"])


@given(truth=LABELS)
def test_a_perfect_prediction_has_the_best_value_of_every_measure(truth):
    truth[0, 0, 0], truth[-1, -1, -1] = 1, 2
    probabilities = np.stack([truth == label for label in range(3)]).astype(np.float32)
    scored = score_scan(truth, truth, AFFINE, probabilities)
    for row in scored:
        assert list(row) == ["lesion", *MEASURES]
        perfect = {name: 0 for name in MEASURES if "difference" in name} | {"hd95_mm": 0, "asd_mm": 0}
        perfect |= dict.fromkeys(("dice", "precision", "recall", "atlas22_dice", "isles26_dice"), 1)
        perfect |= dict.fromkeys(("atlas22_lesion_f1", "isles26_lesion_f1", "isles26_pr_auc"), 1)
        assert {name: row[name] for name in perfect} == pytest.approx(perfect)
    assert all(row["is_touched"] and row["is_matched"] for row in true_lesions(truth, truth, AFFINE))
    # A slice without the class scores 0 in the Keras study.
    shares = [(truth == label).any((0, 1)).sum() / (truth > 0).any((0, 1)).sum() for label in (1, 2)]
    assert [row["keras_dice"] for row in scored] == pytest.approx([*shares, 1], rel=1e-4)


@given(pred=LABELS, truth=LABELS, axes=st.permutations([0, 1, 2]), flipped=st.sets(st.integers(0, 2)))
def test_turning_both_changes_only_what_is_measured_by_slice(pred, truth, axes, flipped):
    turned = (np.flip(labels.transpose(axes), list(flipped)) for labels in (pred, truth))
    turned = rows(*turned, affine=AFFINE[np.ix_([*axes, 3], [*axes, 3])])
    for name, row in rows(pred, truth).items():
        assert same(row, turned[name], without=[ORDERED, "keras_dice", "keras_dice_limit"])


@given(pred=LABELS, truth=LABELS, pads=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=3))
def test_background_around_the_lesions_changes_nothing(pred, truth, pads):
    padded = rows(np.pad(pred, pads), np.pad(truth, pads))
    for name, row in rows(pred, truth).items():
        assert same(row, padded[name])
    assert true_lesions(pred, truth, AFFINE) == true_lesions(np.pad(pred, pads), np.pad(truth, pads), AFFINE)


@given(pred=LABELS, truth=LABELS)
def test_swapping_the_classes_swaps_their_rows(pred, truth):
    scored, swapped = rows(pred, truth), rows((3 - pred) % 3, (3 - truth) % 3)
    assert same(scored["main"], swapped["sub"])
    assert same(scored["sub"], swapped["main"])
    assert same(scored["both"], swapped["both"])


def test_another_grid_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 4, 5\), \(5, 4, 3\).*expected"):
        score_scan(empty((3, 4, 5)), empty((5, 4, 3)), AFFINE)
    with pytest.raises(ValueError, match=r"\(5, 7, 6\).*\(2, 5, 7, 6\).*expected"):
        score_scan(empty(), empty(), AFFINE, np.zeros((2, *SHAPE)))
    with pytest.raises(ValueError, match="expected"):
        true_lesions(empty((1, *SHAPE)), empty((1, *SHAPE)), AFFINE)


@pytest.mark.parametrize("labels", [empty() + 0.99999, empty() + 3, empty().astype(np.int8) - 1, empty() > 0])
def test_what_is_no_label_map_is_refused(labels):
    with pytest.raises(ValueError, match=rf"prediction of {labels.dtype}.*1 \(main\)"):
        score_scan(labels, empty(), AFFINE)
    with pytest.raises(ValueError, match="got a truth"):
        true_lesions(empty(), labels, AFFINE)


def test_the_mask_of_a_class_is_taken_from_labels_and_an_unknown_class_refused():
    assert select_class(torch.tensor([[0, 1, 2]]), "both").tolist() == [[False, True, True]]
    with pytest.raises(ValueError, match="main, sub, both"):
        select_class(torch.tensor([[0, 1, 2]]), "rim")
    output = [{"pred": torch.tensor([[0, 1, 2]]), "label": torch.tensor([[1, 1, 2]])}]
    (pred,), (label,) = select_pairs("main")(output)
    assert (pred.tolist(), label.tolist()) == ([[0, 1, 0]], [[1, 1, 0]])
