"""Networks of known behavior, named in a bundle's `network_def` in place of a trained one."""

import torch
from torch import nn


class DarkIsLesion(nn.Module):
    """Call main lesion what is darker than half the median tissue and no air; exact on the miniature's anatomy."""

    def __init__(self, dark=0.5, air=0.1):
        super().__init__()
        self.register_buffer("dark", torch.tensor(dark))
        self.register_buffer("air", torch.tensor(air))

    def forward(self, x):
        lesion = ((x > self.air) & (x < self.dark)).to(x.dtype)
        return 20 * torch.cat([1 - lesion, lesion, torch.zeros_like(x)], dim=1)
