"""SegNet as in the Keras study (10,184,067 trainable parameters) or, as an option, with the paper's unpooling.

Badrinarayanan, Kendall, Cipolla: SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation.
IEEE TPAMI 2017. Each stage here has one convolution instead of the paper's two or three.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from strokelesion.networks.slice_network import SliceNetwork, initialize_as_keras
from strokelesion.networks.user_error import UserError

UNPOOLINGS = ("nearest", "indices")


def convolution_block(in_channels: int, out_channels: int, relu: bool) -> nn.Sequential:
    """Return 3x3 convolution, BatchNorm and, if `relu`, ReLU: `(B, in, H, W)` to `(B, out, H, W)`."""
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class SegNet(SliceNetwork):
    """Encoder and decoder without skip connections.

    Args:
        in_channels: Number of input channels; 1 for T1.
        out_channels: Number of classes; 3 for background, main lesion and sub-lesion.
        channels: Number of channels of each encoder stage, from full resolution down.
        unpooling: Kind of decoder. `nearest` is that of the Keras study: nearest upsampling, convolution, BatchNorm, with
            512-512-256-128-64 channels. `indices` is that of the paper: unpooling puts each value back at the position of its
            maximum, and each stage ends with ReLU. It has 512-256-128-64-64 channels, because unpooling needs as many
            channels as were pooled.

    Raises:
        UserError: If `unpooling` is unknown.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 3,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        unpooling: str = "nearest",
    ) -> None:
        super().__init__(in_channels, out_channels)
        if unpooling not in UNPOOLINGS:
            raise UserError(f"got unpooling {unpooling!r}; allowed are {', '.join(UNPOOLINGS)}.")
        self.unpooling = unpooling
        self.size_multiple = 2 ** len(channels)
        with_indices = unpooling == "indices"
        downward = pairwise((in_channels, *channels))
        upward = pairwise((*reversed(channels), channels[0]) if with_indices else (channels[-1], *reversed(channels)))
        self.encoder = nn.ModuleList(convolution_block(a, b, relu=True) for a, b in downward)
        self.decoder = nn.ModuleList(convolution_block(a, b, relu=with_indices) for a, b in upward)
        self.classifier = nn.Conv2d(channels[0], out_channels, 1)
        initialize_as_keras(self)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, 1, H, W)` to `(B, 3, H, W)`; H and W are multiples of 32."""
        indices = []
        for stage in self.encoder:  # after pooling: 64 x H/2, 128 x H/4, 256 x H/8, 512 x H/16, 512 x H/32
            x, where = F.max_pool2d_with_indices(stage(x), [2, 2])
            indices.append(where)
        for stage in self.decoder:  # 512 x H/16, 512 x H/8, 256 x H/4, 128 x H/2, 64 x H
            x = stage(self._upsample(x, indices.pop()))
        logits: torch.Tensor = self.classifier(x)  # 3 x H
        return logits

    def _upsample(self, x: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        if self.unpooling == "indices":
            return F.max_unpool2d(x, where, [2, 2], [2, 2])
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
