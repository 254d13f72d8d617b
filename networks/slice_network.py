"""Base class of the three networks: input of any size, and initial weights as in the Keras study.

A network that halves its input n times needs sizes that are multiples of 2**n. `SliceNetwork` pads the far edges of a slice to
the next legal size and crops the logits back, so callers can use any size.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import nn

from strokelesion.networks.user_error import UserError


class SliceNetwork(nn.Module, ABC):
    """Base class of the 2D networks.

    Attributes:
        size_multiple: Number of which the height and width of the input of `logits` are multiples.
    """

    size_multiple: int

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if in_channels < 1 or out_channels < 2:
            raise UserError(
                f"got {in_channels} input and {out_channels} output channels; allowed are at least 1 and at least 2: "
                "T1 in; background, main lesion and sub-lesion out is `in_channels: 1, out_channels: 3`."
            )
        self.in_channels, self.out_channels = in_channels, out_channels

    @abstractmethod
    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Map slices of legal size `(B, in_channels, H, W)` to logits `(B, out_channels, H, W)`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class logits of slices of any size.

        Args:
            x: Slices `(B, in_channels, H, W)`.

        Returns:
            Logits `(B, out_channels, H, W)`; the loss and the post-processing apply the softmax.

        Raises:
            ValueError: If `x` is not a batch of slices with the network's number of channels.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"got a tensor of shape {tuple(x.shape)}; {type(self).__name__} takes (B, {self.in_channels}, H, W): "
                "feed volumes through VolumeInferer."
            )
        height, width = x.shape[-2:]
        pad_height, pad_width = -height % self.size_multiple, -width % self.size_multiple
        if pad_height or pad_width:
            x = F.pad(x, (0, pad_width, 0, pad_height), mode="replicate")
        return self.logits(x)[..., :height, :width]


def initialize_as_keras(network: nn.Module) -> None:
    """Draw all convolution kernels from Glorot's uniform distribution and set all biases to zero.

    This is the default of Keras, which the Keras study used. In networks without normalization, torch's default shrinks the
    signal from stage to stage. Source: Glorot and Bengio, AISTATS 2010, equation 16.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
