"""Test-time augmentation: a head and its mirror image say the same, and their mean says it better."""

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer

# Of a volume `(B, C, H, W, D)` in RAS that slices are cut from, H runs from left to right.
LEFT_RIGHT = 2


class MirrorInferer(Inferer):
    """Average the logits of a volume and of its left-right mirror image, mirrored back.

    Args:
        inferer: how a volume goes through the network.
        enabled: false hands the volume on unchanged.
    """

    def __init__(self, inferer: Inferer, enabled: bool) -> None:
        super().__init__()
        self.inferer = inferer
        self.enabled = enabled

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return the mean for `inputs` `(B, C, H, W, D)`; twice the work."""
        prediction = self.inferer(inputs, network, *args, **kwargs)
        if not self.enabled:
            return prediction
        mirrored = self.inferer(inputs.flip(LEFT_RIGHT), network, *args, **kwargs)
        return (prediction + mirrored.flip(LEFT_RIGHT)) / 2
