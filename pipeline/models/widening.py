"""Adapt the weights of a network to a network that sees more neighbors of a slice."""

from collections.abc import Mapping

import torch


def given_neighbors(weights: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a network's weights for more neighbors than it was trained with; its output stays the same until more training.

    The trained weights go to the middle channels; the weights of the new neighbors are 0.

    Args:
        weights: State of the trained network.
        wanted: State of a network that sees more neighbors. A tensor is widened if only its number of input channels (axis 1)
            differs and is larger by an even number.
    """
    return {name: widened(tensor, wanted[name]) if name in wanted else tensor for name, tensor in weights.items()}


def widened(tensor: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return weights with zeros added on both sides of the input channels, if only their number differs; else unchanged."""
    if tensor.ndim < 2 or tensor.shape[0] != wanted.shape[0] or tensor.shape[2:] != wanted.shape[2:]:
        return tensor
    more, odd = divmod(wanted.shape[1] - tensor.shape[1], 2)
    if more <= 0 or odd:
        return tensor
    wide = tensor.new_zeros((tensor.shape[0], wanted.shape[1], *tensor.shape[2:]))
    wide[:, more : more + tensor.shape[1]] = tensor
    return wide
