"""A loss for the case that main lesion and sub-lesion look alike: find the lesions first, tell them apart second."""

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import nn


class LesionDiceCELoss(nn.Module):
    """Sum of the cross-entropy of all classes and the Dice loss of lesion, of either class, against background.

    A slice rarely shows which lesion is the largest of the whole brain. Under a Dice loss of each class that doubt is most of
    the loss. Here it stays in the cross-entropy, and Dice is that of what is decided on, p = p_main + p_sub:

        loss = CE(logits, label) + 1 - 2 Σpg / (Σp² + Σg²), sums over batch and pixels.

    Args:
        smooth: added to numerator and denominator.
    """

    def __init__(self, smooth: float = 1e-5) -> None:
        super().__init__()
        self.dice = DiceLoss(squared_pred=True, batch=True, smooth_nr=smooth, smooth_dr=smooth)

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits `(B, 3, H, W)` for label maps `(B, 1, H, W)`."""
        lesion = logits.softmax(dim=1)[:, 1:].sum(dim=1, keepdim=True)
        dice: torch.Tensor = self.dice(lesion, (label > 0).to(lesion.dtype))
        return F.cross_entropy(logits, label[:, 0].long()) + dice
