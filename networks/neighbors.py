"""Slices with their neighbors: a 2D network that is shown the slices below and above, as channels, sees some depth."""

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer


class NeighborInferer(Inferer):
    """Give each slice of a volume its neighbors as channels before another inferer takes the volume slice by slice.

    `(B, 1, H, W, D)` becomes `(B, 2n + 1, H, W, D)`, from the slice n below to the slice n above; beyond the ends of the
    volume the last slice is repeated. Training batches get theirs from `SliceDataset`.

    Args:
        inferer: how the volume goes through the network, such as `SliceInferer`.
        neighbors: n, slices on each side; 0 hands the volume on unchanged.
    """

    def __init__(self, inferer: Inferer, neighbors: int) -> None:
        super().__init__()
        self.inferer = inferer
        self.neighbors = neighbors

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return `inferer(inputs with neighbors, network)`."""
        return self.inferer(with_neighbors(inputs, self.neighbors), network, *args, **kwargs)


def with_neighbors(volume: torch.Tensor, neighbors: int) -> torch.Tensor:
    """Return a volume `(B, 1, H, W, D)` with the neighbors of each slice as channels, `(B, 2 * neighbors + 1, H, W, D)`."""
    if neighbors == 0:
        return volume
    depth = torch.arange(volume.shape[-1], device=volume.device)
    steps = range(-neighbors, neighbors + 1)
    return torch.cat([volume[..., (depth + step).clamp(0, len(depth) - 1)] for step in steps], dim=1)
