"""Several views of one volume: a network that was trained on slices in several planes sees each voxel in all of them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer

# No probability is taken for less, for its logarithm must be a number.
LEAST = 1e-30


class PlanesInferer(Inferer):
    """Average the probabilities that a network finds in a volume's slices in several planes.

    Each plane costs as much time as the first. Guha Roy et al. (QuickNAT, NeuroImage 2019) do so with a network for each plane;
    here one serves all.

    Args:
        inferer: how volumes, cut along their last axis, go through the network.
        planes: names of those that the network was trained on.
        mean_over_planes: takes a volume, a function of volumes and names of planes, and returns the mean of what the function
            makes of the volume when its slices lie in each; see `strokelesion.transforms.planes`.
    """

    def __init__(self, inferer: Inferer, planes: Sequence[str], mean_over_planes: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.inferer = inferer
        self.planes = tuple(planes)
        self.mean_over_planes = mean_over_planes

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return logits `(B, K, X, Y, Z)` of volumes `(B, 1, X, Y, Z)` in RAS; of several planes, log probabilities."""

        def logits(volume: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inferer(volume, network, *args, **kwargs)
            return found

        def probabilities(volume: torch.Tensor) -> torch.Tensor:
            return logits(volume).float().softmax(dim=1)

        if len(self.planes) == 1:
            return self.mean_over_planes(inputs, logits, self.planes)
        return self.mean_over_planes(inputs, probabilities, self.planes).clamp(min=LEAST).log()
