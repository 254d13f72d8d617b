"""What a trained model says of itself, so that whoever applies it asks the model and not the command line.

network      definition of the network: the class in `_target_`, and its arguments
protocol     how a scan is prepared for it and shown to it
decision     how its probabilities become a mask
held_out     which part of which split its training held out; none in released models
training     summary of the training
metadata     MONAI metadata: task, channels, intended use
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from strokelesion.networks import UserError


class Part(BaseModel):
    """A part of a description: nothing is missing, unknown or changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Protocol(Part):
    """How a scan is prepared for a network, and shown to it.

    Attributes:
        spacing_mm: voxel size along the three axes in RAS.
        intensities: `tissue` or `brain`, see `transforms.intensity`.
        slice_mm: extent of the slices.
        crop_mm: extent of the random windows of training slices; None where it was trained on whole slices.
        planes: planes of the slices; predictions are averaged over them.
        neighbors: slices on each side, as channels.
        mirror: whether predictions are averaged with those of the left-right mirror image.
    """

    spacing_mm: tuple[float, float, float]
    intensities: Literal["brain", "tissue"] = "tissue"
    slice_mm: tuple[float, float] = (192.0, 224.0)
    crop_mm: tuple[float, float] | None = None
    planes: tuple[str, ...] = ("axial",)
    neighbors: int = 0
    mirror: bool = False


class Decision(Part):
    """How probabilities become a mask, see `transforms.DecideLesionsd`.

    Attributes:
        threshold: least probability, of main and sub-lesion together, at which a voxel is lesion.
        min_component_ml: smaller components are removed.
        min_peak: components in which no voxel is as probable are removed.
    """

    threshold: float = 0.5
    min_component_ml: float = 0.0
    min_peak: float = 0.0


class HeldOut(Part):
    """Which scans a training held out, and how their true sub-lesions were defined."""

    split: str
    fold: int | str
    seed: int
    sub_lesions: str


class Description(Part):
    """All that a model says of itself; see the head of this file."""

    network: dict[str, Any]
    protocol: Protocol
    decision: Decision = Decision()
    held_out: HeldOut | None = None
    training: dict[str, Any] = {}
    metadata: dict[str, Any] = {}

    @property
    def network_name(self) -> str:
        """Name of the network's class."""
        return str(self.network["_target_"]).rpartition(".")[2]

    def settings(self) -> dict[str, Any]:
        """Return everything that makes the model what it is, by the names of the options."""
        held_out = {} if self.held_out is None else self.held_out.model_dump(mode="json")
        return {**self.training, **self.protocol.model_dump(mode="json"), **held_out}


def require_same(path: Any, was: Description, came: Description) -> None:
    """Raise UserError unless two descriptions of a run are of the same network, trained in the same way."""
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
    """Return MONAI metadata of a bundle for a network with so many input channels: a slice and its neighbors."""
    data_format = metadata["network_data_format"]
    image = data_format["inputs"]["image"] | {"num_channels": channels}
    return {**metadata, "network_data_format": {**data_format, "inputs": {"image": image}}}
