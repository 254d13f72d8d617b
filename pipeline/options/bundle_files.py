"""The bundle files that are installed with this package, and the options that their commands take.

This module needs no torch, because the help of the command line is made from it.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strokelesion.pipeline.options.command_names import EVALUATING, EXPERIMENTS, TRAINING
from strokelesion.pipeline.options.settings import options_of

# Options that the command `experiments` sets for each run.
CHOSEN_FOR_RUNS = {"run_dir", "loss", "fold", "seed", "resume", "init", "weights", "scored"}


def bundle_root() -> str:
    """Return the folder of the bundle files and pretrained models that are installed with this package."""
    return str(Path(__file__).parents[2] / "bundles")


def read_bundle(name: str) -> dict[str, Any]:
    """Return the content of an installed bundle file, such as `resunet`."""
    config: dict[str, Any] = json.loads(Path(bundle_root(), f"{name}.json").read_text())
    return config


def options_taken(command: str, config: Mapping[str, Any]) -> list[str]:
    """Return the options that a command takes and that the bundle uses."""
    if command == EXPERIMENTS:
        return [*options_of(command), *sorted(handed_on() - set(options_of(command)))]
    used = {"bundle_root", "weights", "run_dir", "output_dir"} | set(re.findall(r"@(\w+)", json.dumps(config, default=str)))
    return [name for name in options_of(command) if name in used]


def handed_on() -> set[str]:
    """Return the options of training and evaluating that the command `experiments` passes to its runs."""
    config = read_bundle("resunet")
    return {*options_taken(TRAINING, config), *options_taken(EVALUATING, config)} - CHOSEN_FOR_RUNS


def is_plain_value(value: Any) -> bool:
    """Return whether a value of the configuration is plain: not a section, a list of steps or an expression."""
    if isinstance(value, list | tuple):
        return not any(isinstance(item, dict) or not is_plain_value(item) for item in value)
    return not isinstance(value, dict) and str(value)[:1] not in ("$", "@", "%")
