"""Test-time augmentation by left-right mirroring."""

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer

# Axis H of a volume `(B, C, H, W, D)` in RAS, from left to right.
LEFT_RIGHT = 2


class MirrorInferer(Inferer):
    """Average the logits of a volume and the logits of its left-right mirror image, mirrored back.

    Args:
        inferer: Inferer that passes a volume through the network.
        enabled: Whether to mirror; if false, only the original volume is used.
    """

    def __init__(self, inferer: Inferer, enabled: bool) -> None:
        super().__init__()
        self.inferer = inferer
        self.enabled = enabled

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return the mean logits of volumes `(B, C, H, W, D)`; mirroring doubles the time."""
        prediction = self.inferer(inputs, network, *args, **kwargs)
        if not self.enabled:
            return prediction
        mirrored = self.inferer(inputs.flip(LEFT_RIGHT), network, *args, **kwargs)
        return (prediction + mirrored.flip(LEFT_RIGHT)) / 2
