"""Weights that ship with the project: a file that runs no code, and beside it what it is and how to decide with it.

`NAME.safetensors` holds the network's state in half precision, integers as they are. `NAME.json` beside it says

    sha256                        of the file; checked before anything in it is read
    network, parameters           class name, and how many trainable numbers
    protocol                      voxel size, extent, crop and planes of the slices that the network was trained on
    threshold, min_component_ml, min_peak
                                  the operating point chosen on held-out scans; where it names no peak, none is asked for
    training                      settings of the run
    version                       of this software

The same network and description give the same bytes. File format: https://github.com/huggingface/safetensors.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from strokelesion.pipeline.files import write_bytes, write_json
from strokelesion.pipeline.operating_point import PLAIN, OperatingPoint

SUFFIX = ".safetensors"
DESCRIBED = {"sha256", "network", "protocol", "threshold", "min_component_ml", "training"}


def write_weights(network: torch.nn.Module, path: Path, about: Mapping[str, Any]) -> None:
    """Write a network's weights and their description.

    Args:
        network: what was trained.
        path: `NAME.safetensors`.
        about: `protocol`, the attributes of an operating point, and `training`; the rest is added here.

    Raises:
        ValueError: when a weight is no number or too large for half precision.
    """
    content = save({name: shipped_tensor(name, tensor) for name, tensor in network.state_dict().items()})
    write_bytes(path, content)
    described = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "network": type(network).__name__,
        "parameters": sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
        "version": version("strokelesion"),
    }
    write_json(description_of(path), described | dict(about))


def shipped_tensor(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of a network's state as it is shipped."""
    if not tensor.is_floating_point():
        return tensor.contiguous()
    half = tensor.half().contiguous()
    if not half.isfinite().all():
        raise ValueError(
            f"{name} has weights up to {float(tensor.abs().max()):g}; allowed are numbers up to "
            f"{torch.finfo(half.dtype).max:g}, the largest of half precision. Train with a smaller --learning_rate."
        )
    return half


def read_weights(path: Path) -> dict[str, Any]:
    """Read weights and their description without running any code in them.

    Returns:
        As a checkpoint has it: `network_name`, `network` (state in single precision), `protocol`; and `training`.

    Raises:
        ValueError: when the description is missing or damaged, or the file is not the one that it describes.
    """
    about = read_description(path)
    content = path.read_bytes()
    if (came := hashlib.sha256(content).hexdigest()) != about["sha256"]:
        raise ValueError(
            f"{path} has the SHA-256 {came}; expected {about['sha256']}, as {description_of(path)} says: the file was changed "
            "or cut short. Get both again."
        )
    try:
        state = load(content)
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error}); expected weights that shipping wrote.") from None
    network = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    return {"network_name": about["network"], "network": network, **{key: about[key] for key in ("protocol", "training")}}


def operating_point_of(
    path: str | Path,
    threshold: float | None = None,
    min_component_ml: float | None = None,
    min_peak: float | None = None,
) -> OperatingPoint:
    """Return how to decide with weights: as is asked for, else as is stored beside them, else `PLAIN`.

    Args:
        path: shipped weights, or a checkpoint, which stores none.
        threshold: as asked for, or None.
        min_component_ml: likewise.
        min_peak: likewise.
    """
    stored = read_description(Path(path)) if Path(path).suffix == SUFFIX else {}
    asked: dict[str, Any] = {"threshold": threshold, "min_component_ml": min_component_ml, "min_peak": min_peak}
    return OperatingPoint(
        **{name: stored.get(name, plain) if asked[name] is None else asked[name] for name, plain in vars(PLAIN).items()}
    )


def name_and_digest(path: str | Path) -> str:
    """Return what a file of weights is called and the SHA-256 of it."""
    return f"{Path(path).name}, SHA-256 {hashlib.sha256(Path(path).read_bytes()).hexdigest()}"


def description_of(path: Path) -> Path:
    """Return where the description of weights lies."""
    return path.with_suffix(".json")


def read_description(path: Path) -> dict[str, Any]:
    """Read the description of weights.

    Raises:
        ValueError: when it is missing, or does not describe weights.
    """
    beside = description_of(path)
    try:
        about: dict[str, Any] = json.loads(beside.read_text())
        missing = sorted(DESCRIBED - about.keys())
    except FileNotFoundError:
        raise ValueError(f"{path} has no {beside} beside it; expected its description. Put both in one folder.") from None
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{beside} is no description of weights ({error}); expected the one that shipping wrote.") from None
    if missing:
        raise ValueError(f"{beside} does not say {', '.join(missing)}; expected the description that shipping wrote.")
    return about
