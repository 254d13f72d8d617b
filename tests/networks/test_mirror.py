"""The mean over a head and its mirror image: symmetric whatever the network, and nothing where it is off."""

import torch
from monai.inferers import SliceInferer

from strokelesion.networks.mirror import MirrorInferer


def one_sided(slices):
    """A network that sees the left only."""
    weight = torch.linspace(1, 0, slices.shape[-2])[:, None]
    return slices * weight


def test_a_mirrored_head_gets_the_mirrored_answer():
    torch.manual_seed(0)
    volume = torch.rand(1, 1, 8, 12, 5)
    inferer = MirrorInferer(SliceInferer(roi_size=[8, 12], spatial_dim=2), enabled=True)
    found = inferer(volume, one_sided)
    torch.testing.assert_close(inferer(volume.flip(2), one_sided), found.flip(2))
    torch.testing.assert_close(found, volume / 2)


def test_off_it_hands_everything_on():
    volume = torch.rand(1, 1, 8, 12, 5)
    inferer = SliceInferer(roi_size=[8, 12], spatial_dim=2)
    assert torch.equal(MirrorInferer(inferer, enabled=False)(volume, one_sided), inferer(volume, one_sided))
