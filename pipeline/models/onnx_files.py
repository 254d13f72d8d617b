"""The command `export`: a model as an ONNX file, and what it says of itself as JSON beside it, for other software."""

from pathlib import Path

from torch import nn

from strokelesion.networks import UserError
from strokelesion.networks.onnx_runtime import exported, missing_packages
from strokelesion.pipeline.models.application import load_weights
from strokelesion.pipeline.models.model_files import read_model
from strokelesion.pipeline.runtime.files import write_bytes, write_json


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
    if missing := missing_packages():
        raise UserError(f"export needs {', '.join(missing)}; install the extra: pip install 'strokelesion[onnx]'.")
    model = read_model(weights)
    path = Path(folder) / f"{model.description.network_name.lower()}.onnx"
    write_bytes(path, exported(load_weights(network, model, weights)))  # type: ignore[arg-type]
    write_json(path.with_suffix(".json"), {"sha256": model.sha256, **model.description.model_dump(mode="json")})
    print(f"{path}: {Path(weights).name}, slices as `slices`, logits as `logits`; its protocol and metadata stand beside it.")
