"""Inferers, which nest: mixed precision, the mirror image, several planes, and whole volumes slice by slice.

MONAI's `SliceInferer` holds a whole volume with all its windows and computes slices of air, too. `VolumeInferer` needs less
memory and time, and gives each slice its neighbors.
"""

import platform
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from monai.inferers import Inferer, sliding_window_inference
from monai.utils import convert_to_dst_type

from strokelesion.networks.planes import in_plane, mean_over_planes

Network = Callable[..., torch.Tensor]
# In single precision, the softmax of this logit against logits of 0 is 1, and that of the others is 0.
CERTAIN_LOGIT = 200.0
# Snug windows are multiples of this. U-Net and ResUNet then need no padding, and scans of similar size share a window size.
SNUG_PX = 16
# Axis H of a volume `(B, C, H, W, D)` in RAS, from left to right.
LEFT_RIGHT = 2
# Probabilities are raised to this value before the logarithm.
LEAST_PROBABILITY = 1e-30


class MixedPrecisionInferer(Inferer):
    """Run another inferer under CPU autocast to bfloat16, and return its predictions in single precision.

    On CUDA, MONAI's engines do this (`uses_cuda_amp`). Processors without fast bfloat16 keep single precision.

    Args:
        inferer: Inferer for slices or volumes, such as `SimpleInferer` or `VolumeInferer`.
        amp: Whether to use half precision.
        device: Device of the network.
    """

    def __init__(self, inferer: Inferer, amp: bool, device: str | torch.device) -> None:
        super().__init__()
        self.inferer = inferer
        self.enabled = amp and has_fast_bfloat16(torch.device(device))

    def __call__(self, inputs: torch.Tensor, network: Network, *args: Any, **kwargs: Any) -> Any:
        """Return `inferer(inputs, network)` as float32."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.enabled):
            prediction = self.inferer(inputs, network, *args, **kwargs)
        return prediction.float() if self.enabled else prediction


class ChannelsLastInferer(Inferer):
    """Run another inferer with the weights of the network in channels-last format, which processors compute faster.

    The bundle files of this package store networks so; applications that read a packaged bundle build the network themselves.

    Args:
        inferer: Inferer for slices or volumes.
    """

    def __init__(self, inferer: Inferer) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """Return `inferer(inputs, network)` for a torch module, whose weights are converted in place."""
        return self.inferer(inputs, network.to(memory_format=torch.channels_last), *args, **kwargs)


class MirrorInferer(Inferer):
    """Test-time augmentation by left-right mirroring: average the logits of a volume and of its mirror image.

    Args:
        inferer: Inferer that passes a volume through the network.
        enabled: Whether to mirror; if false, only the original volume is used.
    """

    def __init__(self, inferer: Inferer, enabled: bool) -> None:
        super().__init__()
        self.inferer = inferer
        self.enabled = enabled

    def __call__(self, inputs: torch.Tensor, network: Network, *args: Any, **kwargs: Any) -> Any:
        """Return the mean logits of volumes `(B, C, H, W, D)`; mirroring doubles the time."""
        prediction = self.inferer(inputs, network, *args, **kwargs)
        if not self.enabled:
            return prediction
        mirrored = self.inferer(inputs.flip(LEFT_RIGHT), network, *args, **kwargs)
        return (prediction + mirrored.flip(LEFT_RIGHT)) / 2


class PlanesInferer(Inferer):
    """Average the probabilities that a network predicts from a volume's slices in several planes.

    The time is proportional to the number of planes. Guha Roy et al. (QuickNAT, NeuroImage 2019) train one network for each
    plane; here one network serves all planes.

    Args:
        inferer: Inferer that passes volumes, sliced along their last axis, through the network.
        planes: Planes that the network was trained on, a subset of `PLANES`.
    """

    def __init__(self, inferer: Inferer, planes: Sequence[str]) -> None:
        super().__init__()
        self.inferer = inferer
        self.planes = tuple(planes)

    def __call__(self, inputs: torch.Tensor, network: Network, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return logits `(B, K, X, Y, Z)` of volumes `(B, 1, X, Y, Z)` in RAS; for several planes, log probabilities."""

        def logits(volume: torch.Tensor) -> torch.Tensor:
            predicted: torch.Tensor = self.inferer(volume, network, *args, **kwargs)
            return predicted

        def probabilities(volume: torch.Tensor) -> torch.Tensor:
            return logits(volume).float().softmax(dim=1)

        if len(self.planes) == 1:
            return in_plane(inputs, logits, self.planes[0])
        return mean_over_planes(inputs, probabilities, self.planes).clamp(min=LEAST_PROBABILITY).log()


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

    def __call__(self, inputs: torch.Tensor, network: Network, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return logits `(B, K, H, W, D)` of volumes `(B, 1, H, W, D)`, sliced along D, on their device."""
        whole = torch.as_tensor(inputs).as_subclass(torch.Tensor)
        box = tissue_box(whole) if self.snug else (slice(None), slice(None))
        volumes, predict = whole[:, :, *box], partial(network, *args, **kwargs)
        first, *others = torch.split(slices_with_tissue(volumes), self.batch)
        # If all slices are air, one of them is still needed for the number of classes.
        predicted = self.predict(volumes, first if len(first) else first.new_zeros(1, 2), predict)
        logits = background_like(predicted, whole)
        by_slice = logits[:, :, *box].movedim(-1, 1)
        by_slice[tuple(first.T)] = predicted[: len(first)]
        for chosen in others:
            by_slice[tuple(chosen.T)] = self.predict(volumes, chosen, predict)
        converted: torch.Tensor = convert_to_dst_type(logits, inputs, dtype=logits.dtype)[0]
        return converted

    def predict(self, volumes: torch.Tensor, chosen: torch.Tensor, network: Network) -> torch.Tensor:
        """Return the logits `(N, K, H, W)` of chosen slices, see `with_neighbors`."""
        slices = with_neighbors(volumes, chosen, self.neighbors)
        size = tuple(slices.shape[2:])
        window = tuple(map(min, self.window, size)) if self.snug else self.window
        if window == size:
            return network(slices)  # without MONAI's copies
        return torch.as_tensor(sliding_window_inference(slices, window, self.batch, network, self.overlap))


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether the device is a processor that multiplies bfloat16 in hardware (AVX512-BF16, AMX or similar)."""
    if device.type != "cpu" or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # On Intel and AMD, torch also reports plain AVX512 processors, which emulate bfloat16 and are slower with it.
    has_units = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return has_units or platform.machine() not in ("x86_64", "AMD64")


def uses_cuda_amp(amp: bool, device: str | torch.device) -> bool:
    """Return whether MONAI's engines use half precision; they do so on CUDA only."""
    return amp and torch.device(device).type == "cuda"


def with_neighbors(volumes: torch.Tensor, chosen: torch.Tensor, neighbors: int) -> torch.Tensor:
    """Return slices of volumes with their neighboring slices as channels; `SliceDataset` does this for training batches.

    Args:
        volumes: Volumes `(B, 1, H, W, D)`, sliced along D.
        chosen: Volume and position of each slice, integers `(N, 2)`.
        neighbors: Number n of slices on each side; beyond the ends of a volume its last slice is repeated.

    Returns:
        Slices `(N, 2n + 1, H, W)`; channels run from the slice n below to the slice n above.
    """
    volume, position = chosen.unsqueeze(-1).unbind(1)  # (N, 1) each
    steps = torch.arange(-neighbors, neighbors + 1, device=chosen.device)
    return volumes[volume, 0, :, :, (position + steps).clamp(0, volumes.shape[-1] - 1)]


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
