"""Refuse wrong commands, options and values, and say what is allowed."""

import difflib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import ValidationError

from strokelesion.networks import CommandLineError
from strokelesion.networks.planes import AXIAL
from strokelesion.pipeline.options.bundle_files import is_plain_value, options_taken
from strokelesion.pipeline.options.command_names import APPLYING, COMMANDS, SHARED_COMMANDS
from strokelesion.pipeline.options.option_texts import allowed
from strokelesion.pipeline.options.settings import OPTIONS, Settings, options_in
from strokelesion.pipeline.runtime.processes import launched

COMPILERS = ("g++", "clang++", "c++", "cl")


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
    sections = {name for name, value in config.items() if name not in OPTIONS and not is_plain_value(value)}
    taken = options_taken(command, config)
    for name in [*given, *(name for name in config if is_plain_value(config[name]))]:
        first = re.split("::|#", name)[0]
        if first[:1] == "_" or first in {"bundle_root", *sections, *(taken if name in given else OPTIONS)}:
            continue
        near = difflib.get_close_matches(first, taken, n=1)
        hint = says_why(first, command) or (f" Did you mean --{near[0]}?" if near else "")
        raise CommandLineError(f"got the option --{name}, which {command} does not take.{hint} Allowed are {', '.join(taken)}.")


def says_why(name: str, command: str) -> str:
    """Return why a command does not take an option; "" if the option does not exist."""
    if command in APPLYING and name in (*options_in("protocol"), *options_in("held_out")):
        return " The model itself says it."
    commands = OPTIONS[name].commands if name in OPTIONS else ()
    if command in commands:
        return " This bundle file does not use it."
    return f" It is an option of {', '.join(commands)}." if commands else ""


def check(values: Mapping[str, Any], losses: Sequence[str] = ()) -> Settings:
    """Return the checked values of all options; missing ones get their defaults.

    Args:
        values: Values by the names of the options.
        losses: Allowed values of the option `loss`; by default any text.

    Raises:
        CommandLineError: A value is wrong; the message names every wrong value and what is allowed.
    """
    refusals: dict[str, str] = {}
    if losses and "loss" in values and values["loss"] not in losses:
        refusals["loss"] = f"--loss got {values['loss']!r}; allowed are {', '.join(losses)}."
    try:
        checked = Settings.model_validate(dict(values))
    except ValidationError as error:
        names = dict.fromkeys(str(fault["loc"][0]) for fault in error.errors())
        refusals = {name: refusal(name, values.get(name)) for name in names} | refusals
    if refusals:
        raise CommandLineError("\n".join(refusals.values()))
    return checked


def refusal(name: str, value: Any) -> str:
    """Return the message about a wrong value."""
    values = allowed(name)
    hint = " Quote a name that looks like a number twice: '\"01\"'." if values == "text" else ""
    is_or_are = "is" if values.startswith(("a ", "text")) and " and the " not in values else "are"
    return f"--{name} got {value!r}; allowed {is_or_are} {values}.{hint}"


def changed(values: Settings) -> list[str]:
    """Return the names of the options whose values differ from their defaults."""
    return [name for name, value in vars(check({})).items() if getattr(values, name) != value]


def require_consistent(values: Settings) -> None:
    """Raise CommandLineError for options that contradict each other, or that need a compiler that is not installed."""
    if values.planes != (AXIAL,) and len(set(values.spacing_mm)) > 1:
        raise CommandLineError(
            f"got --planes {','.join(values.planes)} and --spacing_mm {list(values.spacing_mm)}; expected cubes, or slices of "
            "other planes have other pixels. Give one number to --spacing_mm, or --planes axial."
        )
    if values.crop_mm is not None and any(crop > whole for crop, whole in zip(values.crop_mm, values.slice_mm, strict=True)):
        raise CommandLineError(
            f"got --crop_mm {list(values.crop_mm)} and --slice_mm {list(values.slice_mm)}; expected crops up to the extent of "
            "slices. Give a smaller --crop_mm."
        )
    device = torch.device("cpu" if values.device == "auto" else values.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CommandLineError(
            f"--device got {values.device}, and this machine has {torch.cuda.device_count()} GPUs with CUDA; expected one of "
            "them, or cpu. Leave --device out to take what there is."
        )
    if values.generator == "shifted" and values.scanner != "mixed":
        raise CommandLineError(
            f"got --generator shifted and --scanner {values.scanner}; expected --scanner mixed, because the generator has a "
            "scanner of its own. Leave --scanner out."
        )
    if values.init is not None and values.resume:
        raise CommandLineError(
            f"got --init {values.init} and --resume true; allowed is one of them. A resumed run has weights: omit --init. An "
            "adaptation (bundle adapt) cannot be resumed: choose a new --run_dir."
        )
    if values.compile and not any(map(shutil.which, (os.environ.get("CXX", "c++"), *COMPILERS))):
        raise CommandLineError(
            f"--compile got true, and there is no C++ compiler; expected one of {', '.join(COMPILERS)}. Install one, or leave "
            "--compile out."
        )
