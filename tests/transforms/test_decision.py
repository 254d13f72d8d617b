"""From probabilities to labels: argmax where that is the question, components of both classes, volumes in milliliters."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat
from scipy import ndimage

from strokelesion.transforms import DecideLesionsd, FillBackgroundd

SHAPE = (7, 8, 9)
seeds = st.integers(0, 2**32 - 1)
thresholds = st.floats(0.05, 0.95)


def random_probabilities(seed, affine=None, classes=3):
    logits = torch.randn((classes, *SHAPE), generator=torch.Generator().manual_seed(seed))
    return MetaTensor(logits.softmax(0), affine=torch.eye(4, dtype=torch.float64) if affine is None else affine)


def certain(affine, main=(), sub=()):
    """Probabilities that are 1 for the lesion voxels given."""
    probabilities = torch.zeros(3, *SHAPE)
    for label, voxels in ((1, main), (2, sub)):
        for voxel in voxels:
            probabilities[(label, *voxel)] = 1
    probabilities[0] = 1 - probabilities[1:].sum(0)
    return MetaTensor(probabilities, affine=torch.as_tensor(affine))


def decide(probabilities, **options):
    return DecideLesionsd("pred", **options)({"pred": probabilities})["pred"]


def lesion(*args, **options):
    return decide(*args, **options)[0].numpy() > 0


@given(seeds, st.sampled_from([1, 2, None]))
def test_with_one_class_beside_the_background_the_defaults_are_argmax(seed, absent):
    """One of the lesion classes has no probability anywhere, or is not there at all."""
    probabilities = random_probabilities(seed, classes=3 if absent else 2)
    if absent:
        probabilities[absent] = 0
        probabilities /= probabilities.sum(0)
    assert torch.equal(decide(probabilities)[0], probabilities.argmax(0).to(torch.uint8))


@given(seeds, thresholds)
def test_lesion_is_where_both_classes_add_up_and_each_component_has_one_class(seed, threshold):
    """The class of a component is the one with the larger sum of probabilities; the union knows no classes."""
    probabilities = random_probabilities(seed)
    labels = decide(probabilities, threshold=threshold)[0].numpy()
    _, main, sub = np.asarray(probabilities, dtype=float)
    assert np.array_equal(labels > 0, np.asarray(probabilities[1:].sum(0)) >= np.float32(threshold))
    numbers, count = ndimage.label(labels, structure=np.ones((3, 3, 3)))
    for number in range(1, count + 1):
        where = numbers == number
        assert np.unique(labels[where]).tolist() == [1 if main[where].sum() >= sub[where].sum() else 2]


@pytest.mark.parametrize("option", ["threshold", "min_component_ml", "min_peak"])
@given(seeds, thresholds, thresholds)
def test_a_stricter_rule_only_takes_away(option, seed, first, second):
    scale = 0.02 if option == "min_component_ml" else 1
    loose, strict = (
        lesion(random_probabilities(seed), **{"threshold": 0.5, option: scale * value}) for value in sorted([first, second])
    )
    assert (strict <= loose).all()


@given(seeds, thresholds, st.floats(0, 1))
def test_lesions_stay_whole_where_they_are_likely_enough_somewhere(seed, threshold, min_peak):
    probabilities = random_probabilities(seed)
    likely = np.asarray(probabilities[1:].sum(0))
    all_of_them, sure = (lesion(probabilities, threshold=threshold, min_peak=peak) for peak in (0, min_peak))
    numbers, count = ndimage.label(all_of_them, structure=np.ones((3, 3, 3)))
    for number in range(1, count + 1):
        where = numbers == number
        assert sure[where].all() if likely[where].max() >= np.float32(min_peak) else not sure[where].any()
    assert (sure <= all_of_them).all()


@pytest.mark.parametrize("angles", [(0, 0, 0), (0.3, -0.2, 0.1)])
def test_volumes_are_milliliters_whatever_the_grid(angles):
    """Voxels of 2 x 2.5 x 4 mm are 0.02 ml: a component of three has 0.06 ml."""
    affine = from_matvec(euler2mat(*angles) @ np.diag([-2, 2.5, 4]), [-90, 20, 5])
    probabilities = certain(affine, main=[(1, 1, 1), (1, 1, 2), (1, 2, 3), (5, 6, 7)])
    for min_component_ml, voxels in {0: 4, 0.02: 4, 0.021: 3, 0.06: 3, 0.061: 0}.items():
        assert lesion(probabilities, min_component_ml=min_component_ml).sum() == voxels, min_component_ml


def test_touching_classes_are_one_component_of_the_class_of_more():
    """Main and sub that share only a corner stay together, equal ones as main; a small sub-lesion alone does not stay."""
    probabilities = certain(np.eye(4), main=[(1, 1, 1)], sub=[(2, 2, 2), (5, 5, 5)])
    labels = decide(probabilities, min_component_ml=0.002)[0]
    assert (int(labels[1, 1, 1]), int(labels[2, 2, 2]), int(labels[5, 5, 5])) == (1, 1, 0)
    probabilities[2, 1, 1, 2] = 1
    assert decide(probabilities)[0, 1, 1, 1] == 2


def test_the_grid_stays_and_the_probabilities_are_not_changed():
    affine = torch.diag(torch.tensor([2, 3, 4, 1], dtype=torch.float64))
    probabilities = random_probabilities(0, affine)
    before = probabilities.clone()
    labels = decide(probabilities, min_component_ml=0.05)
    assert labels.shape == (1, *SHAPE)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.affine, affine)
    assert torch.equal(probabilities, before)
    assert decide(probabilities.as_tensor()).shape == labels.shape  # without affine, if no volume is asked for


def test_the_background_takes_what_the_lesions_leave():
    probabilities = torch.rand(3, 4, 5, 6) / 3
    probabilities[:, 0] = 0
    filled = FillBackgroundd("pred")({"pred": probabilities})["pred"]
    torch.testing.assert_close(filled.sum(0), torch.ones(4, 5, 6))
    assert torch.equal(filled[1:], probabilities[1:])
