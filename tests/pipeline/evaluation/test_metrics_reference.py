"""Every measure against an implementation that shares no code with it, on hundreds of small random scans.

Plain loops for what is counted and for surfaces, a flood fill for components, panoptica for one-to-one matching,
scikit-learn for ranking.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import panoptica
import pytest
from scipy.ndimage import binary_dilation
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score

from strokelesion.pipeline.evaluation.metrics import CLASSES, score_scan, true_lesions
from strokelesion.pipeline.evaluation.voxelwise import average_precision

SCANS = 300
SPACING_MM = (0.8, 1.5, 3.0)
# Distances come in single precision.
SINGLE = 1e-5
# Voxel edges as above, turned by 30 degrees, left and right swapped.
TURN = np.array([[-np.cos(np.pi / 6), np.sin(np.pi / 6), 0], [np.sin(np.pi / 6), np.cos(np.pi / 6), 0], [0, 0, 1]])
AFFINE = np.vstack([np.column_stack([TURN * SPACING_MM, (90, -126, -72)]), (0, 0, 0, 1)])


@dataclass
class Case:
    """One lesion class of one scan: its masks, the axial slices with any lesion, and the row it got."""

    pred: np.ndarray
    truth: np.ndarray
    slices: list[int]
    row: dict[str, Any]

    @property
    def has_both(self):
        return self.pred.any() and self.truth.any()


def random_scan(seed):
    """Boxes of both labels as truth; predicted, each is kept, moved, split, missed or grown into its neighbors."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.permutation([9, 10, 12]))
    truth, pred = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for _ in range(rng.integers(0, 6)):
        box, label = random_box(rng, shape), rng.choice([1, 1, 2])
        truth[box] = label
        predict(rng, pred, box, label)
    for _ in range(rng.integers(0, 4)):
        pred[random_box(rng, shape, largest=3)] = rng.choice([1, 2])
    return pred * np.uint8(rng.random() > 0.05), truth


def random_box(rng, shape, largest=6):
    start = rng.integers(0, np.array(shape) - 1)
    return tuple(slice(a, a + b) for a, b in zip(start, rng.integers(1, largest, 3), strict=True))


def predict(rng, pred, box, label):
    found = np.zeros(pred.shape, bool)
    found[box] = True
    match rng.choice(["kept", "moved", "split", "missed", "grown"]):
        case "moved":
            found = np.roll(found, rng.integers(-2, 3, 3), (0, 1, 2))
        case "split":
            found[box[0].start + 1 : box[0].start + 2] = False
        case "missed":
            found[:] = False
        case "grown":
            found = binary_dilation(found, np.ones((3, 3, 3)))
    pred[found] = label


@pytest.fixture(scope="module")
def scans():
    return [random_scan(seed) for seed in range(SCANS)]


@pytest.fixture(scope="module")
def cases(scans):
    made = []
    for pred, truth in scans:
        slices = [z for z in range(truth.shape[2]) if truth[..., z].any()]
        for row in score_scan(pred, truth, AFFINE):
            made.append(Case(*(np.isin(each, CLASSES[row["lesion"]]) for each in (pred, truth)), slices, row))
    return made


def voxels(mask):
    return set(map(tuple, np.argwhere(mask).tolist()))


def flood_fill(mask, neighbors):
    """Components as sets of voxels."""
    reach = 1 if neighbors == 6 else 3
    steps = [step for step in product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, step)) <= reach]
    left, lesions = voxels(mask), []
    while left:
        lesion = border = {left.pop()}
        while border:
            border = {(x + i, y + j, z + k) for x, y, z in border for i, j, k in steps} & left
            left -= border
            lesion = lesion | border
        lesions.append(lesion)
    return lesions


def surface(mask):
    """Voxels with a face on the outside, in mm along the axes."""
    inside = voxels(mask)
    faces = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    outer = [(x, y, z) for x, y, z in inside if any((x + i, y + j, z + k) not in inside for i, j, k in faces)]
    return np.array(outer) * SPACING_MM


def test_the_scans_hold_every_situation_that_the_scorers_distinguish(cases):
    assert sum(not case.pred.any() and not case.truth.any() for case in cases) > 20
    assert sum(case.pred.any() and not case.truth.any() for case in cases) > 20
    assert sum(case.truth.any() and not case.pred.any() for case in cases) > 20
    rows = [case.row for case in cases if case.has_both]
    assert sum(row["atlas22_lesion_f1"] > row["isles26_lesion_f1"] for row in rows) > 100
    assert sum(row["atlas22_lesion_count_difference"] != row["isles26_lesion_count_difference"] for row in rows) > 20
    assert sum(0 < row["isles26_lesion_f1"] < 1 for row in rows) > 200


def test_volumes_dice_precision_and_recall_equal_those_of_sets_of_voxels(cases):
    voxel_ml = 0.8 * 1.5 * 3.0 / 1000
    for case in cases:
        p, t, row = voxels(case.pred), voxels(case.truth), case.row
        assert row["truth_ml"] == pytest.approx(len(t) * voxel_ml)
        assert row["pred_ml"] == pytest.approx(len(p) * voxel_ml)
        assert row["volume_difference_ml"] == pytest.approx((len(p) - len(t)) * voxel_ml)
        assert row["isles26_absolute_volume_difference_ml"] == pytest.approx(abs(len(p) - len(t)) * voxel_ml)
        assert row["atlas22_volume_difference_voxels"] == abs(len(p) - len(t))
        if case.has_both:
            dice = 2 * len(p & t) / (len(p) + len(t))
            assert (row["dice"], row["atlas22_dice"], row["isles26_dice"]) == pytest.approx((dice, dice, dice))
            assert row["precision"] == pytest.approx(len(p & t) / len(p))
            assert row["recall"] == pytest.approx(len(p & t) / len(t))


def test_surface_distances_equal_those_between_all_pairs_of_surface_voxels(cases):
    for case in filter(lambda case: case.has_both, cases):
        apart = cdist(surface(case.pred), surface(case.truth))
        from_pred, from_truth = apart.min(axis=1), apart.min(axis=0)
        hd95 = max(np.percentile(from_pred, 95), np.percentile(from_truth, 95))
        asd = (from_pred.sum() + from_truth.sum()) / (from_pred.size + from_truth.size)
        assert (case.row["hd95_mm"], case.row["asd_mm"]) == pytest.approx((hd95, asd), rel=SINGLE)


def test_keras_dice_equals_a_loop_over_slices(cases):
    for case in cases:
        scores = []
        for z in case.slices:
            p, t = voxels(case.pred[..., z]), voxels(case.truth[..., z])
            scores.append(2 * len(p & t) / (len(p) + len(t) + 1e-5))
        expected = sum(scores) / len(scores) if scores else np.nan
        assert case.row["keras_dice"] == pytest.approx(expected, nan_ok=True)


def test_the_atlas22_scores_equal_a_flood_fill_over_faces(cases):
    for case in cases:
        pred, truth = flood_fill(case.pred, 6), flood_fill(case.truth, 6)
        assert case.row["atlas22_lesion_count_difference"] == abs(len(pred) - len(truth))
        if pred or truth:
            hits = sum(bool(lesion & voxels(case.pred)) for lesion in truth)
            false_alarms = sum(not lesion & voxels(case.truth) for lesion in pred)
            f1 = hits / (hits + (false_alarms + len(truth) - hits) / 2)
            assert case.row["atlas22_lesion_f1"] == pytest.approx(f1)


def test_the_isles26_scores_equal_panopticas(cases):
    evaluator = matcher()
    for case in cases:
        theirs = evaluator.evaluate(case.pred.astype(np.uint8), case.truth.astype(np.uint8), verbose=False)["ungrouped"]
        row = case.row
        assert row["isles26_lesion_count_difference"] == abs(theirs.n_pred_instances - theirs.n_ref_instances)
        assert row["isles26_lesion_count_difference"] == abs(len(flood_fill(case.pred, 26)) - len(flood_fill(case.truth, 26)))
        if case.pred.any() or case.truth.any():
            assert row["isles26_lesion_f1"] == pytest.approx(theirs.rq)
            assert row["isles26_dice"] == pytest.approx(theirs.global_bin_dsc)


def matcher():
    return panoptica.Panoptica_Evaluator(
        expected_input=panoptica.InputType.SEMANTIC,
        instance_approximator=panoptica.ConnectedComponentsInstanceApproximator(),
        instance_matcher=panoptica.NaiveThresholdMatching(matching_threshold=0.25),
        instance_metrics=[panoptica.Metric.IOU],
        global_metrics=[panoptica.Metric.DSC],
    )


def test_true_lesions_equal_a_flood_fill_and_as_many_are_matched_as_panoptica_matches(scans):
    evaluator = matcher()
    for pred, truth in scans:
        rows, lesions = true_lesions(pred, truth, AFFINE), sorted(flood_fill(truth > 0, 26), key=min)
        assert [row["volume_ml"] for row in rows] == pytest.approx([len(lesion) * 0.0036 for lesion in lesions])
        assert [row["is_touched"] for row in rows] == [bool(lesion & voxels(pred > 0)) for lesion in lesions]
        theirs = evaluator.evaluate((pred > 0).astype(np.uint8), (truth > 0).astype(np.uint8), verbose=False)["ungrouped"]
        assert sum(row["is_matched"] for row in rows) == theirs.tp


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_pr_auc_equals_scikit_learns_average_precision(levels, dtype):
    rng = np.random.default_rng(levels)
    for _ in range(30):
        truth = rng.random((5, 7, 6)) < rng.choice([0.02, 0.3])
        truth[0, 0, 0] = True
        # Rounding makes ties, with 2 levels two large ones; many voxels are 0 exactly, true ones among them.
        probability = np.round(np.clip(rng.normal(0.4 * truth, 0.3), 0, 1) * levels).astype(dtype) / levels
        expected = average_precision_score(truth.ravel(), probability.ravel())
        assert average_precision(probability, truth) == pytest.approx(expected)


def test_the_pr_auc_of_both_ranks_by_main_and_sub_together():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (5, 7, 6))
    probabilities = rng.dirichlet((1, 1, 1), truth.shape).transpose(3, 0, 1, 2)
    rows = {row["lesion"]: row["isles26_pr_auc"] for row in score_scan(truth, truth, AFFINE, probabilities)}
    main, sub = probabilities[1].ravel(), probabilities[2].ravel()
    labels = truth.ravel()
    assert rows["main"] == pytest.approx(average_precision_score(labels == 1, main))
    assert rows["sub"] == pytest.approx(average_precision_score(labels == 2, sub))
    assert rows["both"] == pytest.approx(average_precision_score(labels > 0, main + sub))
    of_either = score_scan(truth, truth, AFFINE, probabilities[1:].sum(0, keepdims=True))[-1]
    assert of_either["isles26_pr_auc"] == pytest.approx(rows["both"])


@pytest.mark.parametrize("least", [0.0, 0.2])
def test_voxels_less_probable_than_every_true_one_do_not_move_the_pr_auc(least):
    rng = np.random.default_rng(1)
    truth = rng.random((5, 7, 6)) < 0.2
    probability = np.where(truth, rng.uniform(least, 1, truth.shape), rng.uniform(0, 1, truth.shape))
    background = np.zeros((50, 7, 6))
    longer = average_precision(np.concatenate([probability, background]), np.concatenate([truth, background > 0]))
    assert longer == average_precision(probability, truth)
