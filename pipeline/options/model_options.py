"""The model of a command: the model that it applies, starts from or makes, as entries of the running configuration."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from strokelesion.networks import UserError
from strokelesion.pipeline.models.architecture import require_known
from strokelesion.pipeline.models.description import Decision, Description, HeldOut, Protocol, with_channels
from strokelesion.pipeline.models.model_files import RELEASED, Model, read_model
from strokelesion.pipeline.models.starting import LAST, initial_model, resumed_run
from strokelesion.pipeline.options.bundle_files import bundle_root, options_taken
from strokelesion.pipeline.options.command_names import APPLYING, DOCTOR, EVALUATING, RELEASE, TRAINING
from strokelesion.pipeline.options.option_checks import check, require_consistent
from strokelesion.pipeline.options.settings import OPTIONS, Settings, options_in

PRETRAINED = "pretrained"


def as_begun(values: Settings, given: Collection[str]) -> Settings:
    """Return the settings of a training that resumes a run or starts from a model, which supplies the options not given.

    A resumed run keeps all its settings; a new run takes over the protocol of the model that it starts from.
    """
    last = Path(str(values.run_dir), LAST)
    if values.resume and last.is_file():
        known = read_model(last).description.settings()
        known = {"epochs": known.get("schedule_epochs", values.epochs), **known, "tta": known["mirror"]}
    elif values.init is not None:
        known = read_model(values.init).description.protocol.model_dump()
        known["tta"] = known["mirror"]
    else:
        return values
    taken = {name: value for name, value in known.items() if name in OPTIONS and name not in given}
    begun = check({**vars(values), **taken})
    require_consistent(begun)
    return begun


def model_file(named: str | None, root: str, pretrained: str = "resunet") -> str | None:
    """Return the file of a model; `pretrained`, `brain` and `surface` mean models that are installed with this package."""
    installed = {PRETRAINED: pretrained, "brain": "brain", "surface": "surface"}
    return f"{root}/weights/{installed[named]}.safetensors" if named in installed else named


def model_content(values: Settings, command: str, parser: Any) -> dict[str, Any]:
    """Return the model's entries for the configuration: its description and, if it is applied, the options that it decides.

    Raises:
        UserError: The model that the command applies cannot be used.
    """
    if command == RELEASE:
        require_own_folder(values.output_dir)
    if command in APPLYING:
        return content_of(read_model(values.weights or ""), values, command, parser)
    if command not in (TRAINING, DOCTOR):
        return {}
    description = describe_training(values, parser)
    # Check now, because the preparation of data may take long.
    if command == TRAINING and resumed_run(str(values.run_dir), values.resume, description) is None and values.init:
        initial_model(values.init, description)
    return {"model": description, "tta": values.tta or False}


def content_of(model: Model, values: Settings, command: str, parser: Any) -> dict[str, Any]:
    """Return a trained model's entries for the configuration of a command that applies it."""
    description = model.description
    require_known(description.network, values.weights, str(parser.config.get("network_def", {}).get("_target_", "")))
    require_applicable(description, values, command)
    decision = {name: getattr(values, name) for name in Decision.model_fields}
    return {
        **options_of_model(description),
        **{name: getattr(description.decision, name) if value is None else value for name, value in decision.items()},
        "tta": description.protocol.mirror if values.tta is None else values.tta,
        "network_def": dict(description.network),
        "model": description,
    }


def options_of_model(description: Description) -> dict[str, Any]:
    """Return the options that a model decides, checked like those of a user, because anybody may have written the file."""
    protocol = {name: getattr(description.protocol, name) for name in options_in("protocol")}
    decided = {**protocol, **({} if description.held_out is None else description.held_out.model_dump())}
    known = check(decided)
    return {name: getattr(known, name) for name in decided}


def require_applicable(description: Description, values: Settings, command: str) -> None:
    """Raise UserError if a command needs held-out scans and the model names none."""
    needs_held_out = command == RELEASE or (command == EVALUATING and values.scored == "held_out")
    if needs_held_out and description.held_out is None:
        otherwise = ", or measure on all scans with --scored all" if command == EVALUATING else ""
        raise UserError(
            f"{values.weights} does not say which scans its training held out; expected the model of a run. Name one with "
            f"--weights{otherwise}."
        )


def require_own_folder(folder: str | None) -> None:
    """Raise UserError if a model would be released to a folder of pretrained models, which are never replaced."""
    if folder is None:
        raise UserError("--output_dir is missing; expected the folder to write the model to. Name it on the command line.")
    # Linked files, as in editable installations, are in other folders.
    files = Path(bundle_root()).glob(f"*/*{RELEASED}")
    pretrained = {Path(bundle_root()).resolve(), *(file.resolve().parent for file in files)}
    if any(Path(folder).resolve().is_relative_to(root) for root in pretrained):
        raise UserError(
            f"--output_dir got {folder}, where the pretrained models are; expected another folder: these are never replaced."
        )


def describe_training(values: Settings, parser: Any) -> Description:
    """Return the description of the model that a training makes."""
    network = dict(parser.get_parsed_content("network_def", instantiate=False).get_config())
    plain = json.loads(json.dumps({name: value for name, value in network.items() if name != "_desc_"}))
    return Description(
        network=plain,
        protocol=Protocol(**picked(values, "protocol"), mirror=values.tta or False),
        held_out=HeldOut(**picked(values, "held_out")),
        training=training_summary(values, parser.config),
        metadata=with_channels(parser.config["_meta_"], 2 * values.neighbors + 1) if parser.config["_meta_"] else {},
    )


def training_summary(values: Settings, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training options that the bundle uses, and the number of epochs if the schedule depends on it."""
    used = options_taken(TRAINING, config)
    ends = {} if values.schedule == "constant" else {"schedule_epochs": values.epochs}
    return {name: value for name, value in picked(values, "training").items() if name in used} | ends


def picked(values: Settings, part: str) -> dict[str, Any]:
    """Return the values of the options that a part of a description records."""
    return {name: getattr(values, name) for name in options_in(part)}
