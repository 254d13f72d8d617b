"""The losses of the bundles against their formulas, written out in numpy, and what the loss of synthetic scans ignores."""

import numpy as np
import pytest
import torch
from checkout import ROOT
from monai.bundle import ConfigParser

from strokelesion.networks import CrossEntropyDiceLoss, LesionDiceCELoss


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def cross_entropy(p, labels):
    """Mean over all pixels of -log p of the true class."""
    total = 0.0
    for b, h, w in np.ndindex(*labels.shape):
        total -= np.log(p[b, labels[b, h, w], h, w])
    return total / labels.size


def dice_loss(p, labels):
    """1 - 2 sum(p g) / (sum(p^2) + sum(g^2)) per class over batch and pixels, mean over the classes."""
    losses = []
    for k in range(3):
        g = (labels == k).astype(float)
        losses.append(1 - 2 * (p[:, k] * g).sum() / ((p[:, k] ** 2).sum() + (g**2).sum()))
    return np.mean(losses)


FORMULAS = {
    "cce": cross_entropy,
    "dice": dice_loss,
    "cce_dice": lambda p, labels: cross_entropy(p, labels) + dice_loss(p, labels),
}


def loss_of(bundle, name):
    parser = ConfigParser()
    parser.read_config(str(ROOT / f"bundles/{bundle}.json"))
    parser.update({"loss": name})
    return parser.get_parsed_content("loss_function")


@pytest.mark.parametrize("bundle", ["unet", "segnet", "resunet", "resunet_synthetic", "brain"])
@pytest.mark.parametrize("name", FORMULAS)
def test_the_loss_is_its_formula(bundle, name):
    rng = np.random.default_rng(3)
    logits = rng.normal(scale=2, size=(4, 3, 7, 9))
    labels = rng.integers(0, 3, size=(4, 7, 9))
    got = loss_of(bundle, name)(torch.tensor(logits), torch.tensor(labels[:, None], dtype=torch.uint8))
    assert float(got) == pytest.approx(FORMULAS[name](softmax(logits), labels), rel=1e-5)


def test_the_weights_of_both_parts_are_those_asked_for():
    rng = np.random.default_rng(4)
    logits, labels = rng.normal(size=(2, 3, 7, 9)), rng.integers(0, 3, size=(2, 7, 9))
    got = CrossEntropyDiceLoss(cross_entropy=2, dice=0.5)(torch.tensor(logits), torch.tensor(labels[:, None]))
    p = softmax(logits)
    assert float(got) == pytest.approx(2 * cross_entropy(p, labels) + 0.5 * dice_loss(p, labels), rel=1e-5)


def test_a_perfect_prediction_costs_nothing_and_a_missing_class_a_third():
    labels = torch.zeros(2, 1, 7, 9, dtype=torch.uint8)
    labels[:, :, 2:4, 3:6] = 1
    logits = 40.0 * torch.nn.functional.one_hot(labels[:, 0].long(), 3).movedim(-1, 1)
    assert float(loss_of("resunet", "cce")(logits, labels)) == pytest.approx(0, abs=1e-6)
    labels[:, :, 5, 5] = 2  # class 2 is there and not found
    assert float(loss_of("resunet", "dice")(logits, labels)) == pytest.approx(1 / 3, abs=0.02)


# The loss of synthetic scans


def batch(seed=0):
    torch.manual_seed(seed)
    return torch.randn(2, 3, 7, 9), torch.randint(0, 3, (2, 1, 7, 9), dtype=torch.uint8)


def test_bundles_know_it_as_cce_lesion():
    assert isinstance(loss_of("resunet_synthetic", "cce_lesion"), LesionDiceCELoss)


def test_the_lesion_loss_is_the_sum_of_cross_entropy_and_dice_of_any_lesion():
    logits, label = batch()
    entropy, shared, squares = [], np.zeros(2), np.zeros(2)
    for number, (image, labels) in enumerate(zip(logits.double().numpy(), label[:, 0].numpy(), strict=True)):
        for row in range(7):
            for column in range(9):
                odds = np.exp(image[:, row, column])
                probability = odds / odds.sum()
                true = labels[row, column]
                entropy.append(-np.log(probability[true]))
                lesion = probability[1] + probability[2]
                shared[number] += lesion * (true > 0)
                squares[number] += lesion**2 + (true > 0)
    of_batch, of_slices = 2 * shared.sum() / squares.sum(), np.mean((2 * shared + 10) / (squares + 10))
    expected = np.mean(entropy) + 1 - (of_batch + of_slices) / 2
    np.testing.assert_allclose(float(LesionDiceCELoss()(logits, label)), expected, rtol=1e-4)


def test_doubt_between_main_and_sub_costs_cross_entropy_only():
    _, label = batch()
    lesion = (label > 0).float()
    unsure = 20 * torch.cat([1 - lesion, lesion, lesion], dim=1)
    share = float(lesion.mean())
    np.testing.assert_allclose(float(LesionDiceCELoss()(unsure, label)), share * np.log(2), rtol=1e-3)


def test_a_lesion_of_few_pixels_counts_in_its_slice_and_small_components_cost_where_there_is_none():
    """The smaller of two lesions counts more than its share of the pixels; false pixels in a slice without lesion cost, too."""
    label = torch.zeros(3, 1, 40, 40, dtype=torch.uint8)
    label[0, 0, 5:35, 5:35], label[1, 0, 5:10, 5:10] = 1, 1
    right = 40 * torch.nn.functional.one_hot(label[:, 0].long(), 3).movedim(-1, 1).float()
    missed, found = right.clone(), right.clone()
    missed[1] = right[2]
    found[2, :, 20:24, 20:24] = right[0, :, 20:24, 20:24]
    loss = LesionDiceCELoss()
    by_pixels = 1 - 2 * 900 / (900 + 925)
    entropy = torch.nn.functional.cross_entropy(missed, label[:, 0].long())
    assert float(loss(missed, label) - entropy) > 5 * by_pixels
    assert float(loss(found, label)) > float(loss(right, label)) + 0.05


def test_the_right_answer_costs_nothing_and_a_batch_without_lesion_is_no_problem():
    _, label = batch()
    right = 40 * torch.nn.functional.one_hot(label[:, 0].long(), 3).movedim(-1, 1).float()
    assert float(LesionDiceCELoss()(right, label)) < 1e-4
    empty = torch.zeros_like(label)
    logits = torch.zeros(2, 3, 7, 9, requires_grad=True)
    LesionDiceCELoss()(logits, empty).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[:, 1:] > 0).all()
