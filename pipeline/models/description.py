"""The description that a trained model carries in its file; commands that apply the model read their options from it.

network      definition of the network: the class in `_target_`, and its arguments
protocol     preparation of a scan and the form in which the network sees it
decision     rule that turns probabilities into a mask
held_out     part of the split that training held out; none in released models
training     summary of the training
metadata     MONAI metadata: task, channels, intended use
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from strokelesion.networks import UserError


class Part(BaseModel):
    """Base class of the parts of a description; it forbids unknown fields and changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Protocol(Part):
    """Preparation of a scan for a network, and the form in which the network sees it.

    Attributes:
        spacing_mm: Voxel size along the three axes in RAS.
        intensities: Intensity scale `tissue` or `brain`, see `transforms.intensity`.
        slice_mm: Extent of the slices.
        crop_mm: Extent of the random windows of training slices; None if training used whole slices.
        planes: Planes of the slices; predictions are averaged over them.
        neighbors: Number of neighboring slices on each side, as channels.
        mirror: Whether predictions are averaged with those of the left-right mirror image (the option `tta`).
    """

    spacing_mm: tuple[float, float, float]
    intensities: Literal["brain", "tissue"] = "tissue"
    slice_mm: tuple[float, float] = (192.0, 224.0)
    crop_mm: tuple[float, float] | None = None
    planes: tuple[str, ...] = ("axial",)
    neighbors: int = 0
    mirror: bool = False


class Decision(Part):
    """Rule that turns probabilities into a mask, see `transforms.DecideLesionsd`.

    Attributes:
        threshold: Minimum probability of lesion (main and sub-lesion together) of a lesion voxel.
        min_component_ml: Minimum volume of a component; smaller ones are removed.
        min_peak: Minimum of a component's highest probability; other components are removed.
    """

    threshold: float = 0.5
    min_component_ml: float = 0.0
    min_peak: float = 0.0


class HeldOut(Part):
    """Scans that training held out, and the definition of their true sub-lesions."""

    split: str
    fold: int | str
    split_seed: int
    sub_lesions: str


class Description(Part):
    """The whole description of a model; the top of this file lists its parts."""

    network: dict[str, Any]
    protocol: Protocol
    decision: Decision = Decision()
    held_out: HeldOut | None = None
    training: dict[str, Any] = {}
    metadata: dict[str, Any] = {}

    @property
    def network_name(self) -> str:
        """Return the name of the network's class."""
        return str(self.network["_target_"]).rpartition(".")[2]

    def settings(self) -> dict[str, Any]:
        """Return the training, protocol and held-out settings by the names of the options."""
        held_out = {} if self.held_out is None else self.held_out.model_dump(mode="json")
        return {**self.training, **self.protocol.model_dump(mode="json"), **held_out}


def require_same(path: Any, was: Description, came: Description) -> None:
    """Raise UserError unless two descriptions of a run have the same network and the same settings."""
    if was.network != came.network:
        raise UserError(
            f"{path} is a model with the network {was.network}; got {came.network}. Use the bundle file of {was.network_name}, "
            "or another --run_dir."
        )
    before, now = was.settings(), came.settings()
    differing = [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
    if differing:
        changes = "; ".join(f"{name} {before.get(name)}, got {now.get(name)}" for name in sorted(differing))
        raise UserError(
            f"{path} was trained with other settings: {changes}. Expected the same. Give those of the run, or choose another "
            "--run_dir."
        )


def with_channels(metadata: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """Return a bundle's MONAI metadata with this number of input channels: a slice and its neighbors."""
    if "network_data_format" not in metadata:
        return dict(metadata)
    data_format = metadata["network_data_format"]
    image = data_format["inputs"]["image"] | {"num_channels": channels}
    return {**metadata, "network_data_format": {**data_format, "inputs": {"image": image}}}
