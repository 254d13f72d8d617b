"""The first step of every bundle: check the options, read the model, and put both into the running configuration.

`python -m monai.bundle run` adds every unknown option to the configuration and does not check values. Therefore each bundle's
`initialize` begins with `apply_options`, which

1. refuses unknown commands and options, and options that the command does not take;
2. checks all values, see `settings.py`;
3. reads the model that the command applies: its network and its protocol replace those in the bundle file;
4. puts the checked values into the configuration for references such as `@epochs`, and the description as `@model`.
"""

import difflib
import inspect
import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.scripts import create_workflow

from strokelesion.networks import CommandLineError, UserError
from strokelesion.pipeline.models.architecture import require_known
from strokelesion.pipeline.models.description import Decision, Description, HeldOut, Protocol, with_channels
from strokelesion.pipeline.models.model_files import RELEASED, Model, read_model
from strokelesion.pipeline.models.starting import LAST, initial_model, resumed_run
from strokelesion.pipeline.options import settings
from strokelesion.pipeline.options.settings import (
    APPLYING,
    COMMANDS,
    DOCTOR,
    EVALUATING,
    EXPERIMENTS,
    INFERENCE,
    RELEASE,
    SCORING,
    SHARED_COMMANDS,
    SYNTHESIS,
    TRAINING,
    Settings,
)
from strokelesion.pipeline.options.typed_texts import as_literal, plain_texts
from strokelesion.pipeline.runtime.errors import show_error
from strokelesion.pipeline.runtime.processes import launched

PRETRAINED = "pretrained"
# Options that the command `experiments` sets for each run.
CHOSEN_FOR_RUNS = {"run_dir", "loss", "fold", "resume", "init", "weights", "scored"}
# File of a run that a command applies if no model is named.
RUN_FILES = {EVALUATING: LAST, RELEASE: "best.pt"}
OUTPUT_FOLDERS = {INFERENCE: "masks", SYNTHESIS: "synthetic"}


def bundle_root() -> str:
    """Return the folder of the bundle files and pretrained models that are installed with this package."""
    return str(Path(__file__).parents[2] / "bundles")


def apply_options() -> None:
    """Check the options of the workflow in initialization and put them into its configuration; see the top of this file.

    Raises:
        CommandLineError: A command, option or value is wrong.
        UserError: The model that the command applies cannot be used.
    """
    workflow, options = initialized_workflow()
    given, is_given = options or {}, options is not None
    if is_bundle_run(sys.argv):
        sys.excepthook = show_error
    parser, command = workflow.parser, command_of(workflow)
    config = cast(dict[str, Any], parser.config)
    require_command(command, config)
    require_options(command, given, config)
    parsed = {name: parser.get_parsed_content(name) for name in settings.OPTIONS if name in config}
    texts = plain_texts(given, sys.argv if is_bundle_run(sys.argv) else ())
    values = settings.check(parsed | texts)
    require_choice("loss", values.loss, config.get("loss_functions", {}))
    values = with_defaults(values, command, network_name(config), str(parser.get_parsed_content("bundle_root")))
    settings.require_consistent(values)
    if command == TRAINING:
        values = as_begun(values, given if is_given else settings.changed(values))
    put(vars(values), parser)
    put(model_content(values, command, parser), parser)
    if command == EXPERIMENTS:
        handed = {**given, **texts} if is_given else {name: config[name] for name in settings.changed(values)}
        put({"run_options": {name: as_literal(value) for name, value in handed.items() if name in handed_on()}}, parser)


def put(content: Mapping[str, Any], parser: ConfigParser) -> None:
    """Put values into a configuration, which reads them as they are, see `as_literal`."""
    cast(dict[str, Any], parser.config).update({name: as_literal(value) for name, value in content.items()})
    parser.parse(reset=True)


def initialized_workflow() -> tuple[ConfigWorkflow, dict[str, Any] | None]:
    """Return the workflow whose `initialize` is running, and the options that were given to it, if they are known.

    MONAI evaluates a configuration without access to the workflow, so this function inspects the call stack.
    """
    frame: FrameType | None = inspect.currentframe()
    while frame is not None and not isinstance(frame.f_locals.get("self"), ConfigWorkflow):
        frame = frame.f_back
    if frame is None:
        raise RuntimeError("apply_options was not called by a ConfigWorkflow; expected it in `initialize` of a bundle.")
    workflow = frame.f_locals["self"]
    while frame is not None and frame.f_locals.get("self") is workflow:
        frame = frame.f_back
    if frame is None or frame.f_code is not create_workflow.__code__:
        return workflow, None
    arguments = inspect.signature(ConfigWorkflow).parameters
    return workflow, {name: value for name, value in frame.f_locals["_args"].items() if name not in arguments}


def command_of(workflow: ConfigWorkflow) -> str:
    """Return the command that a workflow runs; if an application names none, the workflow type decides."""
    command = str(workflow.run_id)
    if command == "run":
        return INFERENCE if workflow.workflow_type == "infer" else TRAINING
    return command


def is_bundle_run(arguments: Sequence[str]) -> bool:
    """Return whether `sys.argv` is a call of `python -m monai.bundle run`."""
    return Path(arguments[0]).parts[-2:] == ("bundle", "__main__.py") and list(arguments[1:2]) == ["run"]


def require_command(command: str, config: Mapping[str, Any]) -> None:
    """Raise CommandLineError unless the bundle has the command and the command may run in the number of started processes."""
    known = [name for name in COMMANDS if name in config]
    if command not in known:
        raise CommandLineError(f"got the command {command!r}; allowed are {', '.join(known)}.")
    if command not in SHARED_COMMANDS and launched() > 1:
        raise CommandLineError(
            f"got {launched()} processes for {command}, which takes one. Start it without torch.distributed.run."
        )


def require_options(command: str, given: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise CommandLineError for options that do not exist or that the command or the bundle does not use."""
    sections = {name for name, value in config.items() if name not in settings.OPTIONS and not is_plain_value(value)}
    allowed = options_taken(command, config)
    for name in [*given, *(name for name in config if is_plain_value(config[name]))]:
        first = re.split("::|#", name)[0]
        if first[:1] == "_" or first in {"bundle_root", *sections, *(allowed if name in given else settings.OPTIONS)}:
            continue
        near = difflib.get_close_matches(first, allowed, n=1)
        hint = says_why(first, command) or (f" Did you mean --{near[0]}?" if near else "")
        raise CommandLineError(
            f"got the option --{name}, which {command} does not take.{hint} Allowed are {', '.join(allowed)}."
        )


def options_taken(command: str, config: Mapping[str, Any]) -> list[str]:
    """Return the options that a command takes and that the bundle uses."""
    if command == EXPERIMENTS:
        return [*settings.options_of(command), *sorted(handed_on() - set(settings.options_of(command)))]
    used = {"bundle_root", "weights", "run_dir", "output_dir"} | set(re.findall(r"@(\w+)", json.dumps(config, default=str)))
    return [name for name in settings.options_of(command) if name in used]


def handed_on() -> set[str]:
    """Return the options of training and evaluating that the command `experiments` passes to its runs."""
    config = json.loads(Path(bundle_root(), "resunet.json").read_text())
    return {*options_taken(TRAINING, config), *options_taken(EVALUATING, config)} - CHOSEN_FOR_RUNS


def is_plain_value(value: Any) -> bool:
    """Return whether a value of the configuration is plain: not a section, a list of steps or an expression."""
    if isinstance(value, list | tuple):
        return not any(isinstance(item, dict) or not is_plain_value(item) for item in value)
    return not isinstance(value, dict) and str(value)[:1] not in ("$", "@", "%")


def says_why(name: str, command: str) -> str:
    """Return why a command does not take an option; "" if the option does not exist."""
    if command in APPLYING and name in (*settings.options_in("protocol"), *settings.options_in("held_out")):
        return " The model itself says it."
    commands = settings.OPTIONS[name].commands if name in settings.OPTIONS else ()
    if command in commands:
        return " This bundle file does not use it."
    return f" It is an option of {', '.join(commands)}." if commands else ""


def require_choice(name: str, value: str, table: Mapping[str, Any]) -> None:
    """Raise CommandLineError unless a value is a key of a section of the bundle."""
    if table and value not in table:
        raise CommandLineError(f"--{name} got {value!r}; allowed are {', '.join(key for key in table if key[0] != '_')}.")


def network_name(config: Mapping[str, Any]) -> str:
    """Return the class name of the network that a bundle names; "" if it names none."""
    return str(config.get("network_def", {}).get("_target_", "")).rpartition(".")[2]


def with_defaults(values: Settings, command: str, network: str, root: str) -> Settings:
    """Return settings in which all defaults that depend on other values are set."""
    device = ("cuda" if torch.cuda.is_available() else "cpu") if values.device == "auto" else values.device
    run_dir = values.run_dir or f"runs/{network.lower()}_{values.loss}"
    changed = {
        "device": device,
        "run_dir": None if command == SCORING and values.run_dir is None else run_dir,
        "window_batch": values.window_batch or (8 if torch.device(device).type == "cpu" else 16),
        "output_dir": values.output_dir or OUTPUT_FOLDERS.get(command),
        "doctor_csv": values.doctor_csv or f"{run_dir}/doctor.csv",
        "weights": model_file(
            values.weights or (f"{run_dir}/{RUN_FILES[command]}" if command in RUN_FILES else PRETRAINED), root
        ),
        "init": model_file(values.init, root),
        "brain_weights": model_file(values.brain_weights, root, "brain"),
        "surface_weights": model_file(values.surface_weights or (PRETRAINED if values.save_brain else None), root, "surface"),
    }
    return values.model_copy(update=changed)


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
    taken = {name: value for name, value in known.items() if name in settings.OPTIONS and name not in given}
    begun = settings.check({**vars(values), **taken})
    settings.require_consistent(begun)
    return begun


def model_file(named: str | None, root: str, pretrained: str = "resunet") -> str | None:
    """Return the file of a model; the word `pretrained` means one that is installed with this package."""
    return f"{root}/weights/{pretrained}.safetensors" if named == PRETRAINED else named


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
    protocol = {name: getattr(description.protocol, name) for name in settings.options_in("protocol")}
    decided = {**protocol, **({} if description.held_out is None else description.held_out.model_dump())}
    known = settings.check(decided)
    return {name: getattr(known, name) for name in decided}


def require_applicable(description: Description, values: Settings, command: str) -> None:
    """Raise UserError if a command needs something that the model does not provide: held-out scans or a brain mask."""
    needs_held_out = command == RELEASE or (command == EVALUATING and values.scored == "held_out")
    if needs_held_out and description.held_out is None:
        otherwise = ", or measure on all scans with --scored all" if command == EVALUATING else ""
        raise UserError(
            f"{values.weights} does not say which scans its training held out; expected the model of a run. Name one with "
            f"--weights{otherwise}."
        )
    if values.save_brain and description.protocol.intensities == "tissue" and values.prepare == "none":
        raise CommandLineError(
            f"--save_brain got true, but {values.weights} looks for no brain; expected a model that was trained with "
            "--intensities brain, as the pretrained one, or --prepare bias."
        )


def require_own_folder(folder: str | None) -> None:
    """Raise UserError if a model would be released to a folder of pretrained models, which are never replaced."""
    if folder is None:
        raise UserError("--output_dir is missing; expected the folder to write the model to. Name it on the command line.")
    # Linked files, as in editable installations, are in other folders.
    files = Path(bundle_root()).glob(f"*/*{RELEASED}")
    pretrained = {Path(bundle_root()).resolve(), *(file.resolve().parent for file in files)}
    if any(Path(folder).resolve().is_relative_to(place) for place in pretrained):
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
    return {name: getattr(values, name) for name in settings.options_in(part)}
