"""U-Net as in the Keras study: five stages, no normalization, 7,759,587 parameters.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015.
This version has padded convolutions, half the paper's channels and ReLU throughout. The Keras study has no batch normalization;
it is an option here.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from strokelesion.networks.slice_network import SliceNetwork, initialize_as_keras


def double_convolution(in_channels: int, out_channels: int, batch_norm: bool = False) -> nn.Sequential:
    """Return two 3x3 convolutions, each followed by BatchNorm, if wanted, and ReLU: `(B, in, H, W)` to `(B, out, H, W)`."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers.append(nn.Conv2d(channels, out_channels, 3, padding=1))
        layers += [nn.BatchNorm2d(out_channels)] if batch_norm else []
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class UNet(SliceNetwork):
    """Encoder and decoder of equal depth, joined by concatenation at every resolution.

    Args:
        in_channels: Number of input channels; 1 for T1.
        out_channels: Number of classes; 3 for background, main lesion and sub-lesion.
        channels: Number of channels of each stage, from full resolution down.
        batch_norm: Whether batch normalization follows each 3x3 convolution; the Keras study has none.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 3,
        channels: Sequence[int] = (32, 64, 128, 256, 512),
        batch_norm: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels)
        self.size_multiple = 2 ** (len(channels) - 1)
        self.encoder = nn.ModuleList(double_convolution(a, b, batch_norm) for a, b in pairwise((in_channels, *channels)))
        upward = list(pairwise(reversed(channels)))
        self.upsampling = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in upward)
        self.decoder = nn.ModuleList(double_convolution(2 * b, b, batch_norm) for _, b in upward)
        self.classifier = nn.Conv2d(channels[0], out_channels, 1)
        initialize_as_keras(self)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, 1, H, W)` to `(B, 3, H, W)`; H and W are multiples of 16."""
        skips: list[torch.Tensor] = []
        for stage in self.encoder:  # 32 x H, 64 x H/2, 128 x H/4, 256 x H/8, 512 x H/16
            x = stage(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        skips.pop()
        for upsample, stage in zip(self.upsampling, self.decoder, strict=True):
            x = stage(torch.cat([skips.pop(), upsample(x)], dim=1))  # 256 x H/8, 128 x H/4, 64 x H/2, 32 x H
        logits: torch.Tensor = self.classifier(x)  # 3 x H
        return logits
