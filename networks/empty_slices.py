"""Slices of nothing but air need no network: they are background."""

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer

# The softmax of this over a class of logit 0 is 1 in single precision, and that class gets 0.
CERTAIN_LOGIT = 200.0


class TissueInferer(Inferer):
    """Let another inferer take the slices of a volume that show tissue; all others get background with certainty.

    A scan that is cropped to its brain with a margin keeps some slices of air at both ends, a twelfth of all at 1 mm, and
    others may hold nothing because the scan was padded.

    Args:
        inferer: how a volume goes through the network, slice by slice, such as `SliceInferer`.
    """

    def __init__(self, inferer: Inferer) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return logits `(B, K, H, W, D)` for `inputs` `(B, 2n + 1, H, W, D)`, the slice itself the middle channel."""
        filled = has_tissue(inputs)
        if filled.all():
            return torch.as_tensor(self.inferer(inputs, network, *args, **kwargs))
        shown = filled.clone()
        shown[0] |= ~filled.any()  # one at least, which says how many classes there are
        logits = torch.as_tensor(self.inferer(inputs[..., shown], network, *args, **kwargs))
        background = logits.new_zeros((*logits.shape[:-1], len(filled)))
        background[:, 0] = CERTAIN_LOGIT
        background[..., filled] = logits[..., filled[shown]]
        return background


def has_tissue(inputs: torch.Tensor) -> torch.Tensor:
    """Return which slices of `(B, 2n + 1, H, W, D)` are not air, which is 0, all over; booleans `(D,)`."""
    middle = torch.as_tensor(inputs[:, inputs.shape[1] // 2]).as_subclass(torch.Tensor)
    return (middle != 0).any(dim=0).any(dim=0).any(dim=0)
