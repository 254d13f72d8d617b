"""Load trained models for use: the lesion network of a bundle, and the networks that find the brain."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from strokelesion.networks import MirrorInferer, UserError, VolumeInferer
from strokelesion.pipeline.models.architecture import build_network
from strokelesion.pipeline.models.description import Description
from strokelesion.pipeline.models.model_files import Model, read_model
from strokelesion.transforms import BrainExtractor, BrainNetwork, DecideLesionsd

# At 1 mm and coarser, a slice of a head fits into one window of this size.
BRAIN_WINDOW_PX = (256, 256)
BRAIN_WINDOW_OVERLAP = 0.25
BRAIN_BATCH = 8


def load_weights(network: nn.Module, model: Model, path: str | Path, more_neighbors: bool = False) -> nn.Module:
    """Return a network with the weights of a model.

    Args:
        network: Network that receives the weights.
        model: Model as read from its file.
        path: File of the model, for messages.
        more_neighbors: Whether the model may have been trained with fewer neighbors, see `add_neighbors`.

    Raises:
        UserError: The weights do not fit the network.
    """
    weights = model.weights
    try:
        network.load_state_dict(add_neighbors(weights, network.state_dict()) if more_neighbors else weights)
    except RuntimeError as error:
        raise UserError(
            f"{path} does not fit this {type(network).__name__}: {error} Use the bundle file that it was made with."
        ) from None
    return network


def add_neighbors(weights: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a network's weights for more neighbors than it was trained with; its output stays the same until more training.

    The trained weights go to the middle channels; the weights of the new neighbors are 0.

    Args:
        weights: State of the trained network.
        wanted: State of a network that sees more neighbors. A tensor is widened if only its number of input channels (axis 1)
            differs and is larger by an even number.
    """
    return {name: widen(tensor, wanted[name]) if name in wanted else tensor for name, tensor in weights.items()}


def widen(tensor: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return weights with zeros added on both sides of the input channels, if only their number differs; else unchanged."""
    if tensor.ndim < 2 or tensor.shape[0] != wanted.shape[0] or tensor.shape[2:] != wanted.shape[2:]:
        return tensor
    more, odd = divmod(wanted.shape[1] - tensor.shape[1], 2)
    if more <= 0 or odd:
        return tensor
    wide = tensor.new_zeros((tensor.shape[0], wanted.shape[1], *tensor.shape[2:]))
    wide[:, more : more + tensor.shape[1]] = tensor
    return wide


def trained_network(network: nn.Module, path: str | Path) -> nn.Module:
    """Return the network of a model's definition with the weights of the model's file."""
    return load_weights(network, read_model(path), path)


def how_applied(
    model: Description, weights: str | Path, decide: DecideLesionsd, prepare: str, overlap: float, tta: bool, brain: Any
) -> dict[str, Any]:
    """Return everything that determines a mask, for the file that is written with the mask.

    Args:
        model: Description of the model.
        weights: File of the model.
        decide: Decision rule.
        prepare: Preparation of the scan: `none`, `bias` or `mni`.
        overlap: Overlap of windows.
        tta: Whether predictions are averaged with those of the mirror image.
        brain: Finder of the brain, whose `fingerprint` is recorded where it is used.
    """
    return {
        "network": model.network_name,
        "weights": name_and_sha256(weights),
        "protocol": model.protocol.model_dump(mode="json"),
        "decision": decide.rule,
        "prepare": prepare,
        "overlap": overlap,
        "tta": tta,
        "brain": brain.fingerprint if model.protocol.intensities == "brain" or prepare != "none" else None,
    }


def sha256_of_model(path: str | Path) -> str:
    """Return the SHA-256 of a model."""
    return read_model(path).sha256


def name_and_sha256(path: str | Path) -> str:
    """Return the name of a model's file and the model's SHA-256."""
    return f"{Path(path).name}, SHA-256 {read_model(path).sha256}"


def brain_network(path: str | Path, device: str | torch.device) -> BrainNetwork:
    """Return a model that finds the brain, set up as its description says."""
    model = read_model(path)
    protocol = model.description.protocol
    network = load_weights(build_network(model.description.network, path), model, path)
    window = VolumeInferer(BRAIN_WINDOW_PX, BRAIN_WINDOW_OVERLAP, protocol.neighbors, BRAIN_BATCH, snug=True)
    inferer = MirrorInferer(window, enabled=protocol.mirror)
    return BrainNetwork(network, inferer, protocol.spacing_mm[0], protocol.planes, device)


class PretrainedBrainExtractor:
    """Find brains as `BrainExtractor` does; the models are read at the first use.

    Args:
        weights: File of the model that finds the brain.
        surface_weights: File of the model that delineates the brain's surface, or None.
        device: Device of both models.
    """

    def __init__(self, weights: str | Path, surface_weights: str | Path | None, device: str | torch.device) -> None:
        self.weights, self.surface_weights, self.device = weights, surface_weights, device
        self.loaded: BrainExtractor | None = None

    def load(self) -> BrainExtractor:
        """Return the extractor with both models."""
        if self.loaded is None:
            surface = None if self.surface_weights is None else brain_network(self.surface_weights, self.device)
            threshold = read_model(self.weights).description.decision.threshold
            self.loaded = BrainExtractor(brain_network(self.weights, self.device), surface, threshold=threshold)
        return self.loaded

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of everything that determines the mask."""
        return self.load().fingerprint

    def __call__(self, image: Any) -> torch.Tensor:
        """Return the brain mask of a T1 scan `(1, X, Y, Z)`, as booleans of the same shape."""
        return self.load()(image)

    def __deepcopy__(self, memo: dict[int, Any]) -> "PretrainedBrainExtractor":
        """Return itself: it does not change with use, so copies of a chain of transforms can share the networks."""
        return self
