"""The loss of composed scans against loops, and what it is indifferent to."""

import numpy as np
import torch

from strokelesion.networks import LesionDiceCELoss


def batch(seed=0):
    torch.manual_seed(seed)
    return torch.randn(2, 3, 7, 9), torch.randint(0, 3, (2, 1, 7, 9), dtype=torch.uint8)


def test_the_loss_is_the_sum_of_cross_entropy_and_dice_of_any_lesion():
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


def test_a_lesion_of_few_pixels_counts_in_its_slice_and_specks_cost_where_there_is_none():
    """To find the smaller of two lesions is worth more than its share of the pixels; a speck in an empty slice is not free."""
    label = torch.zeros(3, 1, 40, 40, dtype=torch.uint8)
    label[0, 0, 5:35, 5:35], label[1, 0, 5:10, 5:10] = 1, 1
    right = 40 * torch.nn.functional.one_hot(label[:, 0].long(), 3).movedim(-1, 1).float()
    missed, speck = right.clone(), right.clone()
    missed[1] = right[2]
    speck[2, :, 20:24, 20:24] = right[0, :, 20:24, 20:24]
    loss = LesionDiceCELoss()
    by_pixels = 1 - 2 * 900 / (900 + 925)
    entropy = torch.nn.functional.cross_entropy(missed, label[:, 0].long())
    assert float(loss(missed, label) - entropy) > 5 * by_pixels
    assert float(loss(speck, label)) > float(loss(right, label)) + 0.05


def test_the_right_answer_costs_nothing_and_a_batch_without_lesion_is_no_problem():
    _, label = batch()
    right = 40 * torch.nn.functional.one_hot(label[:, 0].long(), 3).movedim(-1, 1).float()
    assert float(LesionDiceCELoss()(right, label)) < 1e-4
    empty = torch.zeros_like(label)
    logits = torch.zeros(2, 3, 7, 9, requires_grad=True)
    LesionDiceCELoss()(logits, empty).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[:, 1:] > 0).all()
