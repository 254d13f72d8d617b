"""From networks for slices to whole scans: a few slices at a time, so that little but the scan and its logits is ever held."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from monai.inferers import Inferer, sliding_window_inference
from monai.utils import convert_to_dst_type

from strokelesion.networks.neighbors import with_neighbors

# The softmax of this over a class of logit 0 is 1 in single precision, and that class gets 0.
CERTAIN_LOGIT = 200.0
# Snug windows are multiples of this, so that U-Net and ResUNet need not pad, and scans of like size have windows of one size.
SNUG_PX = 16


class VolumeInferer(Inferer):
    """Take volumes through a network for slices: each slice with its neighbors, those of nothing but air not at all.

    Slices of air are background with certainty. A scan that is cropped to its brain with a margin keeps some at both ends, a
    twelfth of all at 1 mm, and others may hold nothing because the scan was padded.

    Args:
        window: height and width of what the network sees at once, see MONAI's `sliding_window_inference`; smaller slices are
            padded.
        overlap: of windows, where a slice takes several.
        neighbors: how many slices below and above the network is shown with each, as channels.
        batch: slices at once, and windows of them.
        snug: whether the air around all slices is left out, too, and windows are no larger than what remains: for networks
            that learned from crops, which know slices without a wide margin.
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
                return predict(slices)  # a slice is one window: none are cut out and put together
            return torch.as_tensor(sliding_window_inference(slices, window, self.batch, predict, self.overlap))

        first, *others = torch.split(slices_with_tissue(volumes), self.batch)
        # Where all is air a slice of it says how many classes there are.
        logits = background_like(answer := found(first if len(first) else first.new_zeros(1, 2)), whole)
        by_slice = logits[:, :, *box].movedim(-1, 1)
        by_slice[tuple(first.T)] = answer[: len(first)]
        for chosen in others:
            by_slice[tuple(chosen.T)] = found(chosen)
        converted: torch.Tensor = convert_to_dst_type(logits, inputs, dtype=logits.dtype)[0]
        return converted


def slices_with_tissue(volumes: torch.Tensor) -> torch.Tensor:
    """Return the slices of `(B, 1, H, W, D)` that are not air, which is 0, all over: volume and position, `(N, 2)`."""
    return (volumes[:, 0] != 0).flatten(1, 2).any(dim=1).nonzero()


def tissue_box(volumes: torch.Tensor) -> tuple[slice, slice]:
    """Return rows and columns around all that is not air in volumes `(B, 1, H, W, D)`, multiples of `SNUG_PX` if that fits."""
    filled = (volumes != 0).any(dim=-1).flatten(0, 1).any(dim=0)
    return span(filled.any(dim=1)), span(filled.any(dim=0))


def span(filled: torch.Tensor) -> slice:
    """Return where a line is filled, from first to last, and so much around that a multiple of `SNUG_PX` comes out."""
    where = filled.nonzero().flatten().tolist() or [0, len(filled) - 1]
    needed = where[-1] + 1 - where[0]
    size = min(-(-needed // SNUG_PX) * SNUG_PX, len(filled))
    start = min(max(where[0] - (size - needed) // 2, 0), len(filled) - size)
    return slice(start, start + size)


def background_like(logits: torch.Tensor, volumes: torch.Tensor) -> torch.Tensor:
    """Return logits `(B, K, H, W, D)` of background all over, for slices with logits `(N, K, H, W)` of such volumes."""
    batch, _, *extent = volumes.shape
    background = logits.new_zeros((batch, logits.shape[1], *extent))
    background[:, 0] = CERTAIN_LOGIT
    return background
