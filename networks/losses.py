"""Losses: cross-entropy, Dice and their sum as in the Keras study, and a loss whose Dice term joins both lesion classes."""

import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss, DiceLoss
from torch import nn

SMOOTH = 1e-5
SMOOTH_PX = 10.0


class CrossEntropyDiceLoss(DiceCELoss):
    """Weighted sum of cross-entropy and Dice loss over all classes, the background included.

        cross-entropy = mean over pixels of -log p(true class)
        Dice loss = mean over classes of 1 - (2 Σpg + s) / (Σp² + Σg² + s), sums over batch and pixels, s = 1e-5

    Source of the Dice loss with squares: Milletari et al., V-Net, 3DV 2016.

    Args:
        cross_entropy: Weight of the cross-entropy.
        dice: Weight of the Dice loss.
    """

    def __init__(self, cross_entropy: float = 1.0, dice: float = 1.0) -> None:
        super().__init__(
            softmax=True,
            to_onehot_y=True,
            squared_pred=True,
            batch=True,
            smooth_nr=SMOOTH,
            smooth_dr=SMOOTH,
            lambda_ce=cross_entropy,
            lambda_dice=dice,
        )


class LesionDiceCELoss(nn.Module):
    """Sum of the cross-entropy of all classes and the Dice loss of lesion (main or sub) against background.

    A slice rarely shows which lesion is the largest of the whole brain. In a Dice loss per class, this doubt makes up most of
    the loss. Here the doubt affects only the cross-entropy, and Dice is computed from p = p_main + p_sub. Half of the Dice loss
    is computed over the batch: every pixel has the same weight, so large lesions dominate. The other half is computed over each
    slice: every slice has the same weight. In a slice without lesion, a small component of s pixels costs half as much as a
    missed large lesion.

        loss = CE(logits, label) + 1 - (D_batch + mean of D_slice) / 2, D = (2 Σpg + s) / (Σp² + Σg² + s)

    with s = `SMOOTH` over batch and pixels, and s = `SMOOTH_PX` over the pixels of a slice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.of_batch = DiceLoss(squared_pred=True, batch=True, smooth_nr=SMOOTH, smooth_dr=SMOOTH)
        self.of_slices = DiceLoss(squared_pred=True, batch=False, smooth_nr=SMOOTH_PX, smooth_dr=SMOOTH_PX)

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits `(B, 3, H, W)` for label maps `(B, 1, H, W)`."""
        lesion = logits.softmax(dim=1)[:, 1:].sum(dim=1, keepdim=True)
        truth = (label > 0).to(lesion.dtype)
        dice: torch.Tensor = (self.of_batch(lesion, truth) + self.of_slices(lesion, truth)) / 2
        return F.cross_entropy(logits, label[:, 0].long()) + dice
