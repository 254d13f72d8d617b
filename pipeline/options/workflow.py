"""The first step of every bundle: check the options, read the model, and put both into the running configuration.

`python -m monai.bundle run` adds every unknown option to the configuration and does not check values. Therefore each bundle's
`initialize` begins with `apply_options`, which

1. refuses unknown commands and options, and options that the command does not take;
2. checks all values, see `settings.py` and `option_checks.py`;
3. reads the model that the command applies: its network and its protocol replace those in the bundle file, see
   `model_options.py`;
4. puts the checked values into the configuration for references such as `@epochs`, and the description as `@model`.
"""

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.scripts import create_workflow

from strokelesion.pipeline.models.starting import LAST
from strokelesion.pipeline.options.bundle_files import bundle_root, handed_on
from strokelesion.pipeline.options.command_names import (
    EVALUATING,
    EXPERIMENTS,
    GROUP,
    INFERENCE,
    PACKAGE,
    RELEASE,
    SCORING,
    SYNTHESIS,
    TRAINING,
)
from strokelesion.pipeline.options.flat_sections import flatten_section
from strokelesion.pipeline.options.model_options import PRETRAINED, as_begun, model_content, model_file
from strokelesion.pipeline.options.option_checks import (
    changed,
    check,
    require_command,
    require_consistent,
    require_options,
)
from strokelesion.pipeline.options.settings import OPTIONS, Settings
from strokelesion.pipeline.options.typed_texts import as_literal, plain_texts
from strokelesion.pipeline.runtime.errors import show_error

__all__ = ["apply_options", "bundle_root"]  # named in the bundle files
# File of a run that a command applies if no model is named.
RUN_FILES = {EVALUATING: LAST, RELEASE: "best.pt"}
# Sections of a bundle file that a packaged bundle takes over.
PACKAGED = ("place", "inferer", "postprocessing", "decide")
OUTPUT_FOLDERS = {INFERENCE: "masks", GROUP: "masks", SYNTHESIS: "synthetic"}


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
    parsed = {name: parser.get_parsed_content(name) for name in OPTIONS if name in config}
    texts = plain_texts(given, sys.argv if is_bundle_run(sys.argv) else ())
    losses = [name for name in config.get("loss_functions", {}) if name[0] != "_"]
    values = check(parsed | texts, losses)
    values = with_defaults(values, command, network_name(config), str(parser.get_parsed_content("bundle_root")))
    require_consistent(values)
    if command == TRAINING:
        values = as_begun(values, given if is_given else changed(values))
    put(vars(values), parser)
    put(model_content(values, command, parser), parser)
    if command == PACKAGE:
        put({"sections": json.dumps({name: flatten_section(parser, name) for name in PACKAGED})}, parser)
    if command == EXPERIMENTS:
        handed = {**given, **texts} if is_given else {name: config[name] for name in changed(values)}
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


def network_name(config: Mapping[str, Any]) -> str:
    """Return the class name of the network that a bundle names; "" if it names none."""
    return str(config.get("network_def", {}).get("_target_", "")).rpartition(".")[2]


def with_defaults(values: Settings, command: str, network: str, root: str) -> Settings:
    """Return settings in which all defaults that depend on other values are set."""
    device = ("cuda" if torch.cuda.is_available() else "cpu") if values.device == "auto" else values.device
    run_dir = values.run_dir or f"runs/{network.lower()}_{values.loss}"
    update = {
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
        "surface_weights": model_file(values.surface_weights, root, "surface"),
    }
    return values.model_copy(update=update)
