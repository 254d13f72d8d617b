"""Whole scans through a network for slices, a few slices at a time, to keep the memory small."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from monai.inferers import Inferer, sliding_window_inference
from monai.utils import convert_to_dst_type

from strokelesion.networks.neighbors import with_neighbors

# In single precision, the softmax of this logit against logits of 0 is 1, and that of the others is 0.
CERTAIN_LOGIT = 200.0
# Snug windows are multiples of this. U-Net and ResUNet then need no padding, and scans of similar size share a window size.
SNUG_PX = 16


class VolumeInferer(Inferer):
    """Pass volumes through a network for slices, each slice with its neighbors, and skip slices of air.

    Slices of air are certain background. A scan that is cropped to its brain with a margin has some at both ends (a twelfth
    of all slices at 1 mm), and padding adds others.

    Args:
        window: Height and width of the network's input, see MONAI's `sliding_window_inference`; smaller slices are padded.
        overlap: Overlap of the windows of one slice.
        neighbors: Number of neighboring slices on each side, given to the network as channels.
        batch: Number of slices, and of windows, per forward pass.
        snug: Whether to crop the air around all slices and to limit the window to the remaining size. This is for networks
            that were trained on crops and know slices without a wide margin.
    """

    def __init__(self, window: Sequence[int], overlap: float, neighbors: int, batch: int, snug: bool = False) -> None:
        super().__init__()
        self.window = tuple(window)
        self.overlap = overlap
        self.neighbors = neighbors
        self.batch = batch
        self.snug = snug

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return logits `(B, K, H, W, D)` of volumes `(B, 1, H, W, D)`, sliced along D, on their device."""
        whole = torch.as_tensor(inputs).as_subclass(torch.Tensor)
        box = tissue_box(whole) if self.snug else (slice(None), slice(None))
        volumes = whole[:, :, *box]
        window = [min(sizes) for sizes in zip(self.window, volumes.shape[2:4], strict=True)] if self.snug else self.window

        def found(chosen: torch.Tensor) -> torch.Tensor:
            slices = with_neighbors(volumes, chosen, self.neighbors)
            predict = partial(network, *args, **kwargs)
            if tuple(window) == slices.shape[2:]:
                return predict(slices)  # each slice is one window, so the sliding is not needed
            return torch.as_tensor(sliding_window_inference(slices, window, self.batch, predict, self.overlap))

        first, *others = torch.split(slices_with_tissue(volumes), self.batch)
        # If all slices are air, one of them is still needed for the number of classes.
        logits = background_like(answer := found(first if len(first) else first.new_zeros(1, 2)), whole)
        by_slice = logits[:, :, *box].movedim(-1, 1)
        by_slice[tuple(first.T)] = answer[: len(first)]
        for chosen in others:
            by_slice[tuple(chosen.T)] = found(chosen)
        converted: torch.Tensor = convert_to_dst_type(logits, inputs, dtype=logits.dtype)[0]
        return converted


def slices_with_tissue(volumes: torch.Tensor) -> torch.Tensor:
    """Return volume and position `(N, 2)` of the slices of `(B, 1, H, W, D)` that are not all air (0)."""
    return (volumes[:, 0] != 0).flatten(1, 2).any(dim=1).nonzero()


def tissue_box(volumes: torch.Tensor) -> tuple[slice, slice]:
    """Return the rows and columns of volumes `(B, 1, H, W, D)` that hold all tissue, in multiples of `SNUG_PX` if they fit."""
    filled = (volumes != 0).any(dim=-1).flatten(0, 1).any(dim=0)
    return span(filled.any(dim=1)), span(filled.any(dim=0))


def span(filled: torch.Tensor) -> slice:
    """Return the range from the first to the last true element, extended to a multiple of `SNUG_PX` if that fits."""
    where = filled.nonzero().flatten().tolist() or [0, len(filled) - 1]
    needed = where[-1] + 1 - where[0]
    size = min(-(-needed // SNUG_PX) * SNUG_PX, len(filled))
    start = min(max(where[0] - (size - needed) // 2, 0), len(filled) - size)
    return slice(start, start + size)


def background_like(logits: torch.Tensor, volumes: torch.Tensor) -> torch.Tensor:
    """Return logits `(B, K, H, W, D)` of pure background for volumes whose slices have logits `(N, K, H, W)`."""
    batch, _, *extent = volumes.shape
    background = logits.new_zeros((batch, logits.shape[1], *extent))
    background[:, 0] = CERTAIN_LOGIT
    return background
