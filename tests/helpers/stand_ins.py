"""Networks of known behavior, named in a bundle's `network_def` in place of a trained one."""

import torch
from torch import nn
from torch.nn.functional import max_pool2d

from strokelesion.networks import UNet


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


class BrightIsBrain(nn.Module):
    """Call brain what is brighter than a level: logits of background and brain; with a weight, as trained networks have."""

    def __init__(self, level=0.5):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))

    def forward(self, x):
        return 20 * torch.cat([self.level - x, x - self.level], dim=1)


def tissue_is_brain(level=0.2):
    """Return the bundles' brain network with weights that hand the image through, so that all above a level is brain."""
    network = UNet(out_channels=2, channels=(8, 16, 32, 64, 128))
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
        for first, _, second, _ in (network.encoder[0], network.decoder[-1]):
            first.weight[0, 0, 1, 1] = second.weight[0, 0, 1, 1] = 1
        network.classifier.weight[1, 0] = 20
        network.classifier.bias[1] = -20 * level
    return network
