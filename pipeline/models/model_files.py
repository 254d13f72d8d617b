"""Models on disk: one file per model, which contains its description and runs no code when it is read.

    *.safetensors    a released model: half precision; the description is in the header
    *.pt             a model that training writes: single precision; `last.pt` also holds the state to resume the run

Both contain the description and a SHA-256 over description and weights, which is checked when the file is read. The same model
gives the same bytes. File format: https://github.com/huggingface/safetensors.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from strokelesion.networks import UserError
from strokelesion.pipeline.models.description import Description
from strokelesion.pipeline.runtime.files import write_bytes, written_whole

RELEASED = ".safetensors"
HEADER = "strokelesion"
CHECKPOINT_VERSION = 2
Weights = Mapping[str, torch.Tensor]


class Model(NamedTuple):
    """A model as read from its file.

    Attributes:
        description: Description of the model.
        weights: State of the network, in single precision.
        state: Further content of a checkpoint, such as epoch and optimizer; empty for a released model.
        sha256: SHA-256 of description and weights.
    """

    description: Description
    weights: dict[str, torch.Tensor]
    state: dict[str, Any]
    sha256: str


def write_released(path: Path, description: Description, weights: Weights) -> None:
    """Write a released model: the whole file or nothing.

    Raises:
        UserError: The name does not end in `.safetensors`, or a weight is not finite in half precision.
    """
    if path.suffix != RELEASED:
        raise UserError(f"got the file name {path}; allowed are names that end in {RELEASED}.")
    halved = {name: half(name, tensor) for name, tensor in weights.items()}
    header = {
        "software": version("strokelesion"),
        "sha256": sha256_of_model(description, halved),
        **description.model_dump(mode="json"),
    }
    # One entry only, because the order of several entries in the file is undefined.
    write_bytes(path, save(halved, {HEADER: json.dumps(header, sort_keys=True)}))


def half(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in half precision; integer tensors keep their type."""
    if not tensor.is_floating_point():
        return tensor.contiguous()
    halved = tensor.half().contiguous()
    if not halved.isfinite().all():
        raise UserError(
            f"{name} has weights up to {float(tensor.abs().max()):g}; allowed are numbers up to "
            f"{torch.finfo(halved.dtype).max:g}, the largest of half precision. Train with a smaller --learning_rate."
        )
    return halved


def write_checkpoint(path: Path, description: Description, weights: Weights, state: Mapping[str, Any]) -> None:
    """Write a model in training with the other parts of its state: the whole file or nothing."""
    content = {
        "version": CHECKPOINT_VERSION,
        "description": description.model_dump(mode="json"),
        "sha256": sha256_of_model(description, weights),
        "network": dict(weights),
        **state,
    }
    # An open file, because torch would write the temporary name of a path into the archive.
    with written_whole(path) as beside, beside.open("wb") as file:
        torch.save(content, file)


def read_model(path: str | Path) -> Model:
    """Return a model from its file, with weights in single precision, after all checks.

    Raises:
        UserError: The file is missing, damaged, changed, or no model.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no model at {path}; expected a file that training or release wrote. Train first, or check the path.")
    path.open("rb").close()  # a file that may not be read says so itself
    model = read_released(path) if path.suffix == RELEASED else read_checkpoint(path)
    return model._replace(weights={name: single(tensor) for name, tensor in model.weights.items()})


def read_released(path: Path) -> Model:
    """Return the model of a `.safetensors` file, with weights as they are stored."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        content = {name: value for name, value in header.items() if name not in ("sha256", "software")}
        return checked(path, content, header["sha256"], weights, {})
    except (SafetensorError, AttributeError, KeyError, TypeError, json.JSONDecodeError):
        raise not_a_model(path) from None


def read_checkpoint(path: Path) -> Model:
    """Return the model of a `.pt` file."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = state.pop("version")
    except PermissionError:
        raise
    except Exception:
        # The message of torch is long and advises to load the file in a way that runs its code.
        raise not_a_model(path) from None
    if found != CHECKPOINT_VERSION:
        raise UserError(
            f"{path} is a checkpoint of version {found}; expected version {CHECKPOINT_VERSION}. Use the version of this "
            "project that wrote it, or train anew."
        )
    try:
        return checked(path, state.pop("description"), state.pop("sha256"), state.pop("network"), state)
    except (AttributeError, KeyError, TypeError):
        raise not_a_model(path) from None


def checked(path: Path, content: Any, sha256: str, weights: dict[str, torch.Tensor], state: dict[str, Any]) -> Model:
    """Return a model after a check that its description and weights are unchanged.

    Raises:
        UserError: The description is not valid, or the SHA-256 differs from the recorded one.
    """
    try:
        description = Description.model_validate(content)
        refuse_expressions(path, {name: value for name, value in content.items() if name != "network"})
    except ValidationError as error:
        where = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors())
        raise UserError(
            f"{path} describes itself wrongly ({where}); expected a model of this version of strokelesion. Get the file again."
        ) from None
    if (came := sha256_of_model(description, weights)) != sha256:
        raise UserError(
            f"{path} has the SHA-256 {came}; expected {sha256}, as it says: the file was changed or cut short. Get it again."
        )
    return Model(description, weights, state, sha256)


def refuse_expressions(path: Path, content: Any) -> None:
    """Raise UserError if a description contains an expression that MONAI would evaluate once it is in the configuration."""
    if isinstance(content, Mapping):
        content = [*content, *content.values()]
    if isinstance(content, list | tuple):
        for part in content:
            refuse_expressions(path, part)
    elif isinstance(content, str) and (content.startswith(("$", "@", "%")) or content == "_target_"):
        raise UserError(
            f"{path} describes itself with {content!r}; expected words that MONAI does not evaluate. Use a model from a source "
            "that you trust."
        )


def sha256_of_model(description: Description, weights: Weights) -> str:
    """Return the SHA-256 of a description and of named tensors, in hexadecimal digits."""
    sha = hashlib.sha256(json.dumps(description.model_dump(mode="json"), sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def single(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in single precision; integer tensors keep their type."""
    return tensor.float() if tensor.is_floating_point() else tensor


def not_a_model(path: Path) -> UserError:
    """Return the error for a file that is no model."""
    return UserError(
        f"{path} is no model of this project, or damaged; expected a file that training or release wrote. Copy it again, or "
        "name another --weights."
    )
