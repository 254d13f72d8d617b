"""Weights of a network that learned with fewer neighbors of a slice, for one that is shown more."""

from collections.abc import Mapping

import torch


def given_neighbors(weights: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a network's weights for more neighbors than it learned with: it gives the same answers until it is trained on.

    What it learned goes to the middle channels; what the new neighbors count for is 0.

    Args:
        weights: the network's state.
        wanted: the state of one that is shown more neighbors; where nothing but the number of channels that come in, axis 1,
            is larger by an even number, weights are widened.
    """
    return {name: widened(tensor, wanted[name]) if name in wanted else tensor for name, tensor in weights.items()}


def widened(tensor: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return weights with as many channels in, zeros on both sides, if that is all that they differ in; else as they are."""
    if tensor.ndim < 2 or tensor.shape[0] != wanted.shape[0] or tensor.shape[2:] != wanted.shape[2:]:
        return tensor
    more, odd = divmod(wanted.shape[1] - tensor.shape[1], 2)
    if more <= 0 or odd:
        return tensor
    wide = tensor.new_zeros((tensor.shape[0], wanted.shape[1], *tensor.shape[2:]))
    wide[:, more : more + tensor.shape[1]] = tensor
    return wide
