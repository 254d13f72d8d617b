"""Networks of known behavior, named in a bundle's `network_def` in place of a trained one."""

import torch
from torch import nn
from torch.nn.functional import max_pool2d


class DarkIsLesion(nn.Module):
    """Call main lesion what is darker than half the median tissue and no air; exact on the miniature's anatomy.

    With `rim_px` the outermost pixels of the head are none: there, interpolation makes gray out of bright and air. With
    `size` it takes slices of that height and width only.
    """

    def __init__(self, rim_px=0, dark=0.5, air=0.1, size=None):
        super().__init__()
        self.size = size
        self.rim_px, self.dark, self.air = rim_px, dark, air

    def forward(self, x):
        assert self.size is None or list(x.shape[-2:]) == self.size, x.shape
        near_air = max_pool2d((x <= self.air).to(x.dtype), 2 * self.rim_px + 1, 1, self.rim_px)
        lesion = (x < self.dark).to(x.dtype) * (1 - near_air)
        return 20 * torch.cat([1 - lesion, lesion, torch.zeros_like(x)], dim=1)
