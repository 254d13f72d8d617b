"""The command `export`: a model as an ONNX file, and what it says of itself as JSON beside it, for other software."""

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from strokelesion.networks import UserError
from strokelesion.pipeline.models.application import load_weights
from strokelesion.pipeline.models.model_files import read_model
from strokelesion.pipeline.runtime.files import write_bytes, write_json

PACKAGES = ("onnx", "onnxscript")


def export_onnx(network: nn.Module, weights: str | Path, folder: str | Path | None) -> None:
    """Write `<network>.onnx`, which maps slices of any legal size to logits, and `<network>.json`.

    Args:
        network: Network of the model's definition.
        weights: File of the model.
        folder: Folder that both files are written to.

    Raises:
        UserError: when no folder is named, or a package is missing that writes ONNX.
    """
    if folder is None:
        raise UserError("--output_dir is missing; expected the folder to write the model to. Name it on the command line.")
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        raise UserError(f"export needs {', '.join(missing)}; install the extra: pip install 'strokelesion[onnx]'.")
    model = read_model(weights)
    path = Path(folder) / f"{model.description.network_name.lower()}.onnx"
    write_bytes(path, to_onnx(load_weights(network, model, weights), 2 * model.description.protocol.neighbors + 1))
    write_json(path.with_suffix(".json"), {"sha256": model.sha256, **model.description.model_dump(mode="json")})
    print(f"{path}: {Path(weights).name}, slices as `slices`, logits as `logits`; its protocol and metadata stand beside it.")


def to_onnx(network: nn.Module, channels: int) -> bytes:
    """Return the ONNX model of a network, for any number of slices.

    Height and width are multiples of the network's `size_multiple`, because the padding in `SliceNetwork.forward` depends on
    the size and is not exported. For networks of MONAI they are multiples of 32.

    Args:
        network: Network from slices `(B, channels, H, W)` to logits.
        channels: Number of its input channels.
    """
    multiple = getattr(network, "size_multiple", 32)
    batch, height, width = (torch.export.Dim(name, max=1024) for name in ("batch", "height", "width"))
    # The exporter warns about optional packages that are missing.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        program = torch.onnx.export(
            network.eval(),
            (torch.zeros(2, channels, 2 * multiple, 3 * multiple),),
            dynamo=True,
            dynamic_shapes=({0: batch, 2: multiple * height, 3: multiple * width},),
            input_names=["slices"],
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())
