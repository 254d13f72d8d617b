"""Which lesions are found: drawn as lines and derived on paper, and what holds for any two masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as npst

from strokelesion.pipeline.lesions.lesion_matching import (
    LesionPairs,
    compute_lesion_f1,
    find_matched,
    find_touched,
    pair_lesions,
)

MASKS = npst.arrays(bool, (5, 7, 6))


def line(text):
    """A mask along the last axis, drawn with # for lesion."""
    return np.array([[[letter == "#" for letter in text]]])


@pytest.mark.parametrize(
    ("pred", "truth", "f1_touched", "f1_matched"),
    [
        # One blob over two lesions: both are touched; the better IoU, 5/12, matches, and one is missed: 1 / (1 + 1/2).
        ("############", "#####..###..", 1, 2 / 3),
        # A lesion predicted in two pieces: it is touched, no piece is a false alarm; 4/9 matches, 3/9 is left over.
        ("####..###", "#########", 1, 2 / 3),
        # IoU is 1/4 exactly: a match. 1/5 is none: one missed, one false alarm.
        ("#....", "####.", 1, 1),
        ("#....", "#####", 1, 0),
        # Nothing overlaps: 0 / (0 + 2/2).
        ("##...", "...##", 0, 0),
        # A chain: the long lesion has IoU 3/10 with the left piece and 4/11 with the right one, which has 2/8 with the
        # short lesion. Best first joins the long lesion to the right piece, and the others stay alone: 1 / (1 + 2/2).
        ("#####.#######.", "..########.###", 1, 1 / 2),
    ],
)
def test_the_f1_of_lesions_drawn_on_a_line(pred, truth, f1_touched, f1_matched):
    lesions = pair_lesions(line(pred), line(truth), neighbors=26)
    assert compute_lesion_f1(*find_touched(lesions)) == pytest.approx(f1_touched)
    assert compute_lesion_f1(*find_matched(lesions, min_iou=0.25)) == pytest.approx(f1_matched)


@pytest.mark.parametrize(("middle_pred", "matches"), [(0, 1), (1, 2)])
def test_of_equal_pairs_the_one_with_the_first_prediction_is_matched(middle_pred, matches):
    # A chain of lesions of 4 voxels: a piece, lesion 0, the middle piece, lesion 1. Neighbors share 2 voxels: IoU 2/6.
    pairs = sorted([(1 - middle_pred, 0), (middle_pred, 0), (middle_pred, 1)])
    pred_index, true_index = np.array(pairs).T
    four = np.array([4, 4])
    lesions = LesionPairs(four, four, true_index, pred_index, np.array([2, 2, 2]))
    assert lesions.iou.tolist() == [1 / 3] * 3
    assert find_matched(lesions, min_iou=0.25)[0].sum() == matches


@pytest.mark.parametrize(
    ("second", "by_faces", "by_corners"),
    [((1, 1, 2), 1, 1), ((1, 2, 2), 2, 1), ((2, 2, 2), 2, 1), ((1, 1, 3), 2, 2)],
    ids=["face", "edge", "corner", "apart"],
)
def test_voxels_that_share_an_edge_or_a_corner_are_one_lesion_for_26_neighbors_only(second, by_faces, by_corners):
    truth = np.zeros((5, 7, 6), bool)
    truth[1, 1, 1] = truth[second] = True
    for neighbors, count in {6: by_faces, 26: by_corners}.items():
        lesions = pair_lesions(np.zeros_like(truth), truth, neighbors)
        assert lesions.true_voxels.size == lesions.count_difference == count
        assert lesions.true_voxels.sum() == 2


@given(pred=MASKS, truth=MASKS)
def test_every_voxel_belongs_to_one_lesion_and_every_shared_voxel_to_one_pair(pred, truth):
    for neighbors in (6, 26):
        lesions = pair_lesions(pred, truth, neighbors)
        assert (lesions.pred_voxels.sum(), lesions.true_voxels.sum()) == (pred.sum(), truth.sum())
        assert lesions.shared_voxels.sum() == (pred & truth).sum()


@given(pred=MASKS, truth=MASKS)
def test_a_matched_lesion_is_touched_and_partners_come_in_pairs(pred, truth):
    lesions = pair_lesions(pred, truth, 6)
    true_found, pred_found = find_matched(lesions, min_iou=0.25)
    assert true_found.sum() == pred_found.sum()
    assert (find_touched(lesions)[0] >= true_found).all()
    assert (find_touched(lesions)[1] >= pred_found).all()


@given(truth=MASKS)
def test_each_lesion_of_a_perfect_prediction_is_matched(truth):
    assert all(found.all() for found in find_matched(pair_lesions(truth, truth, 6), min_iou=1))
