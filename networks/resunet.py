"""ResUNet as in the Keras study: a U-Net of residual stages, 3,255,107 trainable parameters.

Zhang, Liu, Wang: Road Extraction by Deep Residual U-Net. IEEE GRSL 2018. Residual stages: He et al., CVPR 2016.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from strokelesion.networks.slice_network import SliceNetwork, initialize_as_keras


def convolution_block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Return 3x3 convolution, BatchNorm, ReLU: `(B, in, H, W)` to `(B, out, H/stride, W/stride)`."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class ResidualStage(nn.Module):
    """ReLU of the sum of a 1x1 shortcut and two convolution blocks; the stride is in the shortcut and in the first block."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride), nn.BatchNorm2d(out_channels))
        self.blocks = nn.Sequential(
            convolution_block(in_channels, out_channels, stride), convolution_block(out_channels, out_channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, in, H, W)` to `(B, out, H/stride, W/stride)`."""
        return F.relu(self.shortcut(x) + self.blocks(x))


class UpwardStage(ResidualStage):
    """Residual stage of a coarse map, upsampled by two (nearest), concatenated with a skip.

    The convolution of two concatenated maps is the sum of the convolutions of each. CPUs therefore need neither upsampling nor
    concatenation: the 1x1 shortcut of the coarse map is computed before upsampling, and its 3x3 convolution becomes a
    transposed convolution with the kernel of `upsampling_kernel`. This cuts the time of a training step to three quarters
    (docs/speed.md). On a GPU the number of kernel launches limits the speed, so the maps are concatenated there.
    """

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Map `(B, a, H, W)` and `(B, b, 2H, 2W)`, with `in_channels` a + b, to `(B, out, 2H, 2W)`."""
        if x.is_cuda:
            return super().forward(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], dim=1))
        (shortcut, shortcut_norm), ((first, norm, relu), second) = cast(Any, self.shortcut), cast(Any, self.blocks)
        of_coarse, of_skip = first.weight.tensor_split([x.shape[1]], dim=1)
        coarse = F.conv_transpose2d(x, upsampling_kernel(of_coarse), stride=2, padding=1)
        residual = second(relu(norm(coarse + F.conv2d(skip, of_skip, first.bias, padding=1))))
        of_coarse, of_skip = shortcut.weight.tensor_split([x.shape[1]], dim=1)
        coarse = F.interpolate(F.conv2d(x, of_coarse), scale_factor=2.0, mode="nearest")
        return F.relu(shortcut_norm(coarse + F.conv2d(skip, of_skip, shortcut.bias)) + residual)


def upsampling_kernel(weight: torch.Tensor) -> torch.Tensor:
    """Return the kernel of a transposed convolution that equals nearest upsampling by two followed by a convolution.

    Args:
        weight: Weight of the convolution `(out, in, 3, 3)` with padding 1.

    Returns:
        Kernel `(in, out, 4, 4)` for stride 2 and padding 1.
    """
    shifted = [F.pad(weight, (i, 1 - i, j, 1 - j)) for i in (0, 1) for j in (0, 1)]
    return torch.stack(shifted).sum(dim=0).flip(2, 3).transpose(0, 1)


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
        deepest = channels[-1]
        self.bridge = nn.Sequential(convolution_block(deepest, deepest), convolution_block(deepest, deepest))
        self.decoder = nn.ModuleList(UpwardStage(a + b, b) for a, b in pairwise(reversed(channels)))
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
            x = stage(x, skips.pop())
        logits: torch.Tensor = self.classifier(x)  # 3 x H
        return logits
