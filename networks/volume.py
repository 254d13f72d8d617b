"""From networks for slices to whole scans: a few slices at a time, so that little but the scan and its logits is ever held."""

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type

from strokelesion.networks.neighbors import with_neighbors

# The softmax of this over a class of logit 0 is 1 in single precision, and that class gets 0.
CERTAIN_LOGIT = 200.0


class VolumeInferer(Inferer):
    """Take volumes through a network for slices: each slice with its neighbors, those of nothing but air not at all.

    Slices of air are background with certainty. A scan that is cropped to its brain with a margin keeps some at both ends, a
    twelfth of all at 1 mm, and others may hold nothing because the scan was padded.

    Args:
        inferer: how slices go through the network, such as `SlidingWindowInferer` with windows of two dimensions.
        neighbors: how many slices below and above the network is shown with each, as channels.
        batch: slices at once.
    """

    def __init__(self, inferer: Inferer, neighbors: int, batch: int) -> None:
        super().__init__()
        self.inferer = inferer
        self.neighbors = neighbors
        self.batch = batch

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return logits `(B, K, H, W, D)` of volumes `(B, 1, H, W, D)`, sliced along D, on their device."""
        volumes = torch.as_tensor(inputs).as_subclass(torch.Tensor)

        def found(chosen: torch.Tensor) -> torch.Tensor:
            slices = with_neighbors(volumes, chosen, self.neighbors)
            return torch.as_tensor(self.inferer(slices, network, *args, **kwargs))

        first, *others = torch.split(slices_with_tissue(volumes), self.batch)
        # Where all is air a slice of it says how many classes there are.
        logits = background_like(answer := found(first if len(first) else first.new_zeros(1, 2)), volumes)
        by_slice = logits.movedim(-1, 1)
        by_slice[tuple(first.T)] = answer[: len(first)]
        for chosen in others:
            by_slice[tuple(chosen.T)] = found(chosen)
        converted: torch.Tensor = convert_to_dst_type(logits, inputs, dtype=logits.dtype)[0]
        return converted


def slices_with_tissue(volumes: torch.Tensor) -> torch.Tensor:
    """Return the slices of `(B, 1, H, W, D)` that are not air, which is 0, all over: volume and position, `(N, 2)`."""
    return (volumes[:, 0] != 0).flatten(1, 2).any(dim=1).nonzero()


def background_like(logits: torch.Tensor, volumes: torch.Tensor) -> torch.Tensor:
    """Return logits `(B, K, H, W, D)` of background all over, for slices with logits `(N, K, H, W)` of such volumes."""
    batch, _, *extent = volumes.shape
    background = logits.new_zeros((batch, logits.shape[1], *extent))
    background[:, 0] = CERTAIN_LOGIT
    return background
