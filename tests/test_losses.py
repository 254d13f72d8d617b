"""The three losses of the bundles against their formulas, written out in numpy."""

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser


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
    parser.read_config(f"bundles/{bundle}.json")
    parser.update({"loss": name})
    return parser.get_parsed_content("loss_function")


@pytest.mark.parametrize("bundle", ["unet", "segnet", "resunet"])
@pytest.mark.parametrize("name", FORMULAS)
def test_the_loss_is_its_formula(bundle, name, at_root):
    rng = np.random.default_rng(3)
    logits = rng.normal(scale=2, size=(4, 3, 7, 9))
    labels = rng.integers(0, 3, size=(4, 7, 9))
    got = loss_of(bundle, name)(torch.tensor(logits), torch.tensor(labels[:, None], dtype=torch.uint8))
    assert float(got) == pytest.approx(FORMULAS[name](softmax(logits), labels), rel=1e-5)


def test_a_perfect_prediction_costs_nothing_and_a_missing_class_a_third(at_root):
    labels = torch.zeros(2, 1, 7, 9, dtype=torch.uint8)
    labels[:, :, 2:4, 3:6] = 1
    logits = 40.0 * torch.nn.functional.one_hot(labels[:, 0].long(), 3).movedim(-1, 1)
    assert float(loss_of("resunet", "cce")(logits, labels)) == pytest.approx(0, abs=1e-6)
    labels[:, :, 5, 5] = 2  # class 2 is there and not found
    assert float(loss_of("resunet", "dice")(logits, labels)) == pytest.approx(1 / 3, abs=0.02)
