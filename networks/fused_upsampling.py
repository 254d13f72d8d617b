"""The faster decoder of the ResUNet: upsampling, concatenation and convolution in one layer.

A training step then takes three quarters of its time on processors (docs/speed.md).
"""

import torch
import torch.nn.functional as F
from torch import nn


class UpsamplingConv2d(nn.Conv2d):
    """Upsample a coarse map by two (nearest), concatenate a skip, and convolve both with a 1x1 or 3x3 kernel.

        conv(concatenate(upsample(coarse), skip)) = conv_coarse(upsample(coarse)) + conv_skip(skip)

    Processors compute the right side, which needs no concatenated map. It needs no upsampled map either: the 1x1 convolution
    comes before the upsampling, and upsampling with the 3x3 convolution is one transposed convolution, see
    `upsampling_kernel`. On a GPU the number of kernel launches limits the speed, so the left side is computed there.

    The stride is 1, the padding keeps the size, and the weights have the names of those of `Conv2d`.
    """

    def forward(self, maps: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:  # type: ignore[override]
        """Map a pair `(B, a, H, W)` and `(B, b, 2H, 2W)`, with `in_channels` a + b, to `(B, out, 2H, 2W)`."""
        coarse, skip = maps
        if coarse.is_cuda:
            return super().forward(torch.cat([upsample(coarse), skip], dim=1))
        of_coarse, of_skip = self.weight.tensor_split([coarse.shape[1]], dim=1)
        convolved_skip = F.conv2d(skip, of_skip, self.bias, padding=self.padding)
        if self.kernel_size == (1, 1):
            return upsample(F.conv2d(coarse, of_coarse)) + convolved_skip
        return F.conv_transpose2d(coarse, upsampling_kernel(of_coarse), stride=2, padding=1) + convolved_skip


def upsample(x: torch.Tensor) -> torch.Tensor:
    """Repeat each pixel of `(B, C, H, W)` twice in both directions: `(B, C, 2H, 2W)`."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def upsampling_kernel(weight: torch.Tensor) -> torch.Tensor:
    """Return the kernel of a transposed convolution that equals nearest upsampling by two followed by a convolution.

    Args:
        weight: Weight of the convolution `(out, in, 3, 3)` with padding 1.

    Returns:
        Kernel `(in, out, 4, 4)` for stride 2 and padding 1.
    """
    shifted = [F.pad(weight, (i, 1 - i, j, 1 - j)) for i in (0, 1) for j in (0, 1)]
    return torch.stack(shifted).sum(dim=0).flip(2, 3).transpose(0, 1)
