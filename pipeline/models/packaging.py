"""The command `package`: a model as a MONAI bundle in the layout of the model zoo, for MONAI's own tools.

    LICENSE
    configs/metadata.json      task, versions, format of the network's input and output
    configs/inference.json     network and the steps before and after it; all paths are relative to `bundle_root`
    configs/logging.conf
    models/model.pt            weights in single precision, as a plain state dict
    models/model.json          SHA-256 of the model, its preparation of scans and its decision rule
    models/brain.safetensors   model that finds the brain, where the lesion model needs it
    docs/README.md             how to apply it, and the model card
    docs/data_license.txt      sources and licenses of the training data

The transforms are those of this package, which the metadata require: https://monai.readthedocs.io/en/stable/mb_specification.html.
"""

import io
import json
import re
from collections.abc import Mapping
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import torch

from strokelesion.networks import UserError
from strokelesion.pipeline.models.architecture import build_network
from strokelesion.pipeline.models.description import Description
from strokelesion.pipeline.models.model_files import Model, read_model
from strokelesion.pipeline.runtime.files import write_bytes, write_json, write_text

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
REQUIRED = ("strokelesion", "pytorch-ignite", "nibabel")
BRAIN = "models/brain.safetensors"
# The model card, beside the code in the repository and in an installed package.
CARD = Path(__file__).resolve().parents[2] / "docs" / "model_card.md"
BUNDLES = Path(__file__).parents[2] / "bundles"
README = """# {name}

{task}. {description}. *{intended_use}.*

Install `monai` {monai_version} and `strokelesion` {software}. Then run this in the folder of the bundle:

```bash
python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir /data/scans --output_dir masks
```

It segments each `*.nii` and `*.nii.gz` of `--dataset_dir` and writes
`masks/<scan>_dseg.nii.gz` on the scan's own grid: {labels}.

The network takes slices of {spacing} mm in RAS ({planes}) with {neighbors} neighbors on each side as channels.

{card}"""


def write_package(
    weights: str | Path,
    folder: str | Path | None,
    sections: str,
    metadata: Mapping[str, Any],
    brain_weights: str | Path,
    classes: int,
) -> None:
    """Write the bundle of a model to a new folder, see the top of this file.

    Args:
        weights: File of the model.
        folder: Folder in which the bundle's folder is made; it is named after the model.
        sections: Sections `place`, `inferer`, `postprocessing` and `decide` of the bundle file, as JSON, see
            `flatten_section`.
        metadata: MONAI metadata of the bundle file.
        brain_weights: File of the model that finds the brain.
        classes: Number of classes of the models that the sections are for.

    Raises:
        UserError: when no folder is named, or the model has another number of classes.
    """
    if folder is None:
        raise UserError("--output_dir is missing; expected the folder to write the bundle to. Name it on the command line.")
    model = read_model(weights)
    if (found := model.description.network.get("out_channels", classes)) != classes:
        raise UserError(
            f"{weights} has {found} classes; expected {classes}. Package lesion models with bundles/resunet.json, and brain "
            "models with bundles/brain.json and --weights brain."
        )
    about = describe_package(model.description, metadata)
    root = Path(folder) / f"{about['name']}_mri_segmentation"
    inference = with_model(json.loads((BUNDLES / "packaged.json").read_text()), model.description, json.loads(sections))
    write_text(root / "configs/inference.json", json.dumps(inference, indent=4) + "\n")
    write_json(root / "configs/metadata.json", about)
    write_bytes(root / "configs/logging.conf", (BUNDLES / "logging.conf").read_bytes())
    write_bytes(root / "models/model.pt", state_dict_bytes(model))
    write_json(root / "models/model.json", {"sha256": model.sha256, **model.description.model_dump(mode="json")})
    if "brain_extractor" in inference:
        write_bytes(root / BRAIN, Path(brain_weights).read_bytes())
    write_documents(root, about, model)
    print(f"{root}: {Path(weights).name} as a MONAI bundle; docs/README.md says how to apply it.")


def with_model(inference: Mapping[str, Any], description: Description, sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inference file of a bundle with the network of a model and the steps of its protocol."""
    # The other steps after the network prepare tables and pages, which only this package writes.
    after = [step for step in sections["postprocessing"]["transforms"] if step["keys"] == "pred"]
    steps = {
        "preprocessing": [without_label(step) for step in sections["place"]["transforms"]],
        "postprocessing": [*after, sections["decide"]],
    }
    filled = {**inference, "network_def": dict(description.network)}
    filled["inferer"] = {**inference["inferer"], "inferer": sections["inferer"]}
    for name, own in steps.items():
        around: list[Any] = inference[name]["transforms"]
        here = around.index("steps")
        filled[name] = {**inference[name], "transforms": [*around[:here], *own, *around[here + 1 :]]}
    if "@brain_extractor" in json.dumps(steps):
        filled["brain_extractor"] = {
            "_target_": "strokelesion.pipeline.models.application.PretrainedBrainExtractor",
            "weights": f"$@bundle_root + '/{BRAIN}'",
            "surface_weights": None,
            "device": "@device",
        }
    return filled


def without_label(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return a transform of scans and masks for scans alone; MONAI Label has other things under the key `label`."""
    if not isinstance(keys := step["keys"], list):
        return dict(step)
    kept = [index for index, key in enumerate(keys) if key != "label"]
    by_key = {name: [step[name][index] for index in kept] for name in ("keys", "mode") if isinstance(step.get(name), list)}
    return {**step, **by_key}


def describe_package(description: Description, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a bundle: those of the model, with the installed versions and the shapes of its network.

    Args:
        description: Description of the model.
        metadata: Metadata of this package, which describe lesion models.
    """
    known = description.metadata or metadata
    about = {**metadata, **(known if known["name"] != metadata["name"] else {})}
    installed = {name: version(name).partition("+")[0] for name in ("monai", "torch", "numpy", *REQUIRED)}
    return {
        **about,
        "schema": SCHEMA,
        "version": metadata["version"],
        "changelog": metadata["changelog"],
        "monai_version": installed["monai"],
        "pytorch_version": installed["torch"],
        "numpy_version": installed["numpy"],
        "required_packages_version": {name: installed[name] for name in REQUIRED},
        "network_data_format": describe_tensors(description, about["network_data_format"]),
    }


def describe_tensors(description: Description, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the format of a network's input and output: slices with their neighbors as channels, and logits."""
    network = build_network(description.network, "the model")
    multiple, neighbors = getattr(network, "size_multiple", 32), description.protocol.neighbors
    # MONAI's tools put numbers in the place of p and n.
    shape = [f"{multiple}*p", f"{multiple}*n"]
    steps = range(-neighbors, neighbors + 1)
    channels = {str(index): f"T1w, slice {step:+d}" if step else "T1w" for index, step in enumerate(steps)}
    slices = {"num_channels": len(channels), "spatial_shape": shape, "is_patch_data": True, "channel_def": channels}
    logits = {"format": "labels", "spatial_shape": shape, "is_patch_data": True}
    return {
        "inputs": {"image": {**known["inputs"]["image"], **slices}},
        "outputs": {"pred": {**known["outputs"]["pred"], **logits}},
    }


def state_dict_bytes(model: Model) -> bytes:
    """Return the weights of a model as the file that torch reads with `weights_only=True`."""
    buffer = io.BytesIO()
    torch.save(model.weights, buffer)
    return buffer.getvalue()


def write_documents(root: Path, about: Mapping[str, Any], model: Model) -> None:
    """Write the license and the README; for pretrained models, also the model card and the licenses of the training data."""
    protocol, classes = model.description.protocol, about["network_data_format"]["outputs"]["pred"]["channel_def"]
    pretrained = {read_model(path).sha256 for path in (BUNDLES / "weights").glob("*.safetensors")}
    card = without_links(CARD.read_text()) if model.sha256 in pretrained else describe_training(model.description)
    values = {
        "software": version("strokelesion"),
        "labels": ", ".join(f"{label} {name}" for label, name in classes.items()),
        "spacing": " x ".join(f"{edge:g}" for edge in protocol.spacing_mm),
        "planes": ", ".join(protocol.planes),
        "neighbors": protocol.neighbors,
        "card": re.sub("^#", "##", card, flags=re.MULTILINE),
    }
    write_text(root / "docs/README.md", README.format(**about, **values))
    write_text(root / "LICENSE", str(distribution("strokelesion").read_text("licenses/LICENSE")))
    if data := re.search(r"^## Training data\n(.*?)(?=^## )", card, flags=re.MULTILINE | re.DOTALL):
        write_text(root / "docs/data_license.txt", data[1].strip() + "\n")


def describe_training(description: Description) -> str:
    """Return the training settings of a model that a user trained, as a section in place of the model card."""
    settings = "".join(f"- {name}: {value}\n" for name, value in description.training.items())
    return f"# Training\n\n{settings}"


def without_links(markdown: str) -> str:
    """Return a text without pictures and without links to pages that are not part of a bundle."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"!\[[^\]]*\]\([^)]*\)\n*", "", markdown))
