"""ResUNet as in the Keras study: a U-Net of residual stages, 3,255,107 trainable parameters.

Zhang, Liu, Wang: Road Extraction by Deep Residual U-Net. IEEE GRSL 2018.
He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016 (residual stages).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from strokelesion.networks.fused_upsampling import UpsamplingConv2d
from strokelesion.networks.slice_network import SliceNetwork, initialize_as_keras

Convolution = type[nn.Conv2d]


def convolution_block(in_channels: int, out_channels: int, stride: int = 1, conv: Convolution = nn.Conv2d) -> nn.Sequential:
    """Return 3x3 convolution, BatchNorm, ReLU: `(B, in, H, W)` to `(B, out, H/stride, W/stride)`."""
    return nn.Sequential(
        conv(in_channels, out_channels, 3, stride=stride, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
    )


class ResidualStage(nn.Module):
    """ReLU of the sum of a 1x1 shortcut and two convolution blocks.

    `conv` and the stride belong to the first convolution of either way.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, conv: Convolution = nn.Conv2d) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(conv(in_channels, out_channels, 1, stride=stride), nn.BatchNorm2d(out_channels))
        self.blocks = nn.Sequential(
            convolution_block(in_channels, out_channels, stride, conv), convolution_block(out_channels, out_channels)
        )

    def forward(self, x: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Map `(B, in, H, W)` to `(B, out, H/stride, W/stride)`."""
        return F.relu(self.shortcut(x) + self.blocks(x))


class ResUNet(SliceNetwork):
    """Residual encoder with strided stages, bridge, and residual decoder with nearest upsampling and concatenation.

    Args:
        in_channels: Number of input channels; 1 for T1.
        out_channels: Number of classes; 3 for background, main lesion and sub-lesion.
        channels: Number of channels of each stage, from full resolution down; the bridge has the last one.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 3, channels: Sequence[int] = (16, 32, 64, 128, 256)) -> None:
        super().__init__(in_channels, out_channels)
        self.size_multiple = 2 ** (len(channels) - 1)
        self.stem = convolution_block(in_channels, channels[0])
        self.encoder = nn.ModuleList(ResidualStage(a, b, stride=2) for a, b in pairwise(channels))
        self.bridge = nn.Sequential(*(convolution_block(channels[-1], channels[-1]) for _ in range(2)))
        self.decoder = nn.ModuleList(ResidualStage(a + b, b, conv=UpsamplingConv2d) for a, b in pairwise(reversed(channels)))
        self.classifier = nn.Conv2d(channels[0], out_channels, 1)
        initialize_as_keras(self)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, 1, H, W)` to `(B, 3, H, W)`; H and W are multiples of 16."""
        x = self.stem(x)  # 16 x H
        skips = []
        for stage in self.encoder:  # 32 x H/2, 64 x H/4, 128 x H/8, 256 x H/16
            skips.append(x)
            x = stage(x)
        x = self.bridge(x)  # 256 x H/16
        for stage in self.decoder:  # 128 x H/8, 64 x H/4, 32 x H/2, 16 x H
            x = stage((x, skips.pop()))
        logits: torch.Tensor = self.classifier(x)  # 3 x H
        return logits
