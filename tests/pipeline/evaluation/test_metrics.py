"""Scores of masks drawn by hand, what empty masks mean, and what must not change a score; references are tested apart."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from strokelesion.pipeline.evaluation.metrics import (
    MEASURES,
    score_scan,
    select_class,
    select_pairs,
    true_lesions,
    voxel_volume_ml,
)

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


def test_rows_come_as_main_sub_both_and_columns_in_the_order_of_the_tables():
    scored = score_scan(empty(), empty(), AFFINE)
    assert [row["lesion"] for row in scored] == ["main", "sub", "both"]
    assert all(list(row) == ["lesion", *MEASURES] for row in scored)
    assert all(isinstance(row[name], float | int) for row in scored for name in MEASURES)


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


def test_surface_distances_on_paper_are_in_millimeters_along_each_axis():
    truth = empty((9, 8, 7))
    truth[1, 1, 1] = 1
    for shift, expected_mm in [((3, 0, 0), 6), ((0, 3, 0), 9), ((0, 0, 3), 15), ((2, 0, 0), 4), ((3, 0, 2), 136**0.5)]:
        main = rows(np.roll(truth, shift, (0, 1, 2)), truth)["main"]
        assert (main["hd95_mm"], main["asd_mm"]) == pytest.approx((expected_mm, expected_mm))


def test_hd95_is_the_worse_direction_and_asd_pools_both():
    truth, pred = empty((3, 4, 21)), empty((3, 4, 21))
    truth[1, 1, 0] = 1
    pred[1, 1, [0, 20]] = 1
    # From the prediction 0 and 100 mm, 95th percentile 95; from the truth 0. Mean of (0, 100, 0).
    main = rows(pred, truth)["main"]
    assert (main["hd95_mm"], main["asd_mm"]) == pytest.approx((95, 100 / 3))


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
    for pred, truth, expected in [
        (empty(), empty(), both_empty),
        (there, empty(), only_truth_empty),
        (empty(), there, only_pred_empty),
    ]:
        scored = rows(pred, truth, probabilities=flat)
        assert scored["main"][measure] == pytest.approx(expected, nan_ok=True)
        assert scored["both"][measure] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("predicted", [0, 1])
def test_an_empty_class_has_a_keras_dice_of_0_in_a_scan_with_another_lesion(predicted):
    truth, pred = empty(), empty()
    truth[1, 2, 3] = 2
    pred[1, 2, 3] = predicted
    assert rows(pred, truth)["main"]["keras_dice"] == 0


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


def test_every_measure_has_its_line_about_empty_masks():
    [lines] = [mark.args[1] for mark in test_what_empty_masks_mean.pytestmark]
    assert tuple(measure for measure, *_ in lines) == MEASURES


@given(truth=LABELS)
def test_a_perfect_prediction_has_the_best_value_of_every_measure(truth):
    truth[0, 0, 0], truth[-1, -1, -1] = 1, 2
    probabilities = np.stack([truth == label for label in range(3)]).astype(np.float32)
    for row in score_scan(truth, truth, AFFINE, probabilities):
        perfect = {name: 0 for name in MEASURES if "difference" in name} | {"hd95_mm": 0, "asd_mm": 0}
        perfect |= dict.fromkeys(("dice", "precision", "recall", "atlas22_dice", "isles26_dice"), 1)
        perfect |= dict.fromkeys(("atlas22_lesion_f1", "isles26_lesion_f1", "isles26_pr_auc"), 1)
        assert {name: row[name] for name in perfect} == pytest.approx(perfect)
    assert all(row["is_touched"] and row["is_matched"] for row in true_lesions(truth, truth, AFFINE))


@given(truth=LABELS)
def test_keras_dice_caps_a_perfect_prediction_at_the_share_of_slices_with_the_class(truth):
    truth[0, 0, 0] = 1
    slices = (truth > 0).any((0, 1)).sum()
    assert rows(truth, truth)["main"]["keras_dice"] == pytest.approx((truth == 1).any((0, 1)).sum() / slices, rel=1e-4)


@given(pred=LABELS, truth=LABELS, axes=st.lists(st.sampled_from([0, 1, 2]), unique=True))
def test_flipping_both_changes_nothing(pred, truth, axes):
    flipped = rows(np.flip(pred, axes), np.flip(truth, axes))
    for name, row in rows(pred, truth).items():
        assert same(row, flipped[name], without=[ORDERED])


@given(pred=LABELS, truth=LABELS, axes=st.permutations([0, 1, 2]))
def test_swapping_axes_changes_only_what_is_measured_by_slice(pred, truth, axes):
    turned = rows(pred.transpose(axes), truth.transpose(axes), affine=AFFINE[np.ix_([*axes, 3], [*axes, 3])])
    for name, row in rows(pred, truth).items():
        assert same(row, turned[name], without=[ORDERED, "keras_dice"])


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


@given(pred=LABELS, truth=LABELS)
def test_swapping_prediction_and_truth_swaps_precision_with_recall_and_keeps_what_is_symmetric(pred, truth):
    pred[0, 0, 0] = truth[1, 1, 1] = 1
    here, there = rows(pred, truth)["main"], rows(truth, pred)["main"]
    assert here["precision"] == there["recall"]
    assert here["volume_difference_ml"] == -there["volume_difference_ml"]
    assert (here["dice"], here["hd95_mm"], here["asd_mm"]) == pytest.approx((there["dice"], there["hd95_mm"], there["asd_mm"]))


@given(pred=LABELS, truth=LABELS)
def test_without_sub_lesions_both_is_main(pred, truth):
    scored = rows(pred % 2, truth % 2)
    assert same(scored["both"], scored["main"])


@given(pred=LABELS, truth=LABELS)
@settings(max_examples=30)
def test_scoring_leaves_its_arguments_alone_and_repeats_itself(pred, truth):
    copies = pred.copy(), truth.copy()
    first = rows(pred, truth)
    assert all(np.array_equal(*pair) for pair in zip((pred, truth), copies, strict=True))
    assert all(same(row, first[name]) for name, row in rows(pred.astype(np.int64), np.asfortranarray(truth)).items())


def test_true_lesions_are_listed_in_the_order_of_their_first_voxels():
    truth, pred = empty(), empty()
    truth[0, 6, 0:3] = 1  # matched, IoU 2/3
    truth[2, 0:2, 3] = 1  # main and sub that touch are one lesion
    truth[2, 2:6, 3] = 2  # of 6 voxels, touched in 1: IoU 1/6
    truth[4, 0, 5] = 2  # missed
    pred[0, 6, 0:2] = 2  # of the other class, which does not matter here
    pred[2, 0, 3] = 1
    assert true_lesions(pred, truth, AFFINE) == [
        {"volume_ml": pytest.approx(0.09), "is_touched": True, "is_matched": True},
        {"volume_ml": pytest.approx(0.18), "is_touched": True, "is_matched": False},
        {"volume_ml": pytest.approx(0.03), "is_touched": False, "is_matched": False},
    ]
    assert true_lesions(truth, empty(), AFFINE) == []


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
    labels = torch.tensor([[0, 1, 2]])
    assert select_class(labels, "both").tolist() == [[False, True, True]]
    with pytest.raises(ValueError, match="main, sub, both"):
        select_class(labels, "rim")


def test_pairs_for_monai_metrics_take_one_class():
    output = [{"pred": torch.tensor([[0, 1, 2]]), "label": torch.tensor([[1, 1, 2]])}]
    (pred,), (label,) = select_pairs("main")(output)
    assert pred.tolist() == [[0, 1, 0]]
    assert label.tolist() == [[1, 1, 0]]


def test_voxel_volume_is_the_determinant_whatever_the_orientation():
    oblique = np.array([[0, -3, 0, 9], [1.6, 0, 1.2, 9], [1.2, 0, -1.6, 9], [0, 0, 0, 1]])
    assert voxel_volume_ml(oblique) == pytest.approx(0.012)
