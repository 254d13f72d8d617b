"""The command line's guard: each knob becomes its value here or is refused with the choices.

`python -m monai.bundle run` adds any option it does not know to the configuration, runs any key as a verb and hands words
on as they were typed ("false" is true). The bundles' `initialize` calls `check_command`, and their chapter `knobs` passes
every value through one of the functions below.
"""

import difflib
import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from strokelesion.pipeline.errors import show_error

VERBS = ("training", "evaluating", "inference")
# Options of `monai.bundle run` itself.
RUNNER_OPTIONS = ("run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file")


def choice(name: str, value: object, allowed: Collection[str]) -> str:
    """Return a word that is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"--{name} got {value!r}; allowed are {', '.join(allowed)}.")
    return str(value)


def flag(name: str, value: object) -> bool:
    """Return true or false from a boolean or from the words true and false."""
    word = str(value).lower()
    if word not in ("true", "false"):
        raise ValueError(f"--{name} got {value!r}; allowed are true, false.")
    return word == "true"


def whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """Return a whole number between `least` and `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"--{name} got {value!r}; allowed is a whole number {limits}.")
    return value


def number(name: str, value: object, above: float, most: float) -> float:
    """Return a number above `above` and at most `most`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value <= most:
        raise ValueError(f"--{name} got {value!r}; allowed is a number above {above:g} and at most {most:g}.")
    return float(value)


def share(name: str, value: object) -> float:
    """Return a number from 0 up to, but not including, 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"--{name} got {value!r}; allowed is a number from 0 to below 1.")
    return float(value)


def spacing(name: str, value: object) -> list[float]:
    """Return a voxel size in mm along the three axes, from three numbers or from one for all."""
    edges = [value] * 3 if is_list([value], 1) else value
    if not is_list(edges, 3) or not 0.1 <= min(edges) <= max(edges) <= 10:
        raise ValueError(f"--{name} got {value!r}; allowed are one or three numbers of mm from 0.1 to 10, such as [1,1,1].")
    return [float(x) for x in edges]


def slice_size(name: str, value: object, spacing_mm: Sequence[float]) -> list[int]:
    """Return the height and width in voxels of a slice whose extent is given in mm."""
    if not is_list(value, 2) or not 32 <= min(value) <= max(value) <= 1024:
        raise ValueError(
            f"--{name} got {value!r}; allowed are two numbers of mm from 32 to 1024, such as [192,224]. "
            "Sizes that come to multiples of 32 voxels cost no padding."
        )
    return [max(1, round(extent_mm / edge_mm)) for extent_mm, edge_mm in zip(value, spacing_mm, strict=False)]


def is_list(value: object, length: int) -> TypeGuard[list[float]]:
    """Return whether `value` is a list or tuple of so many numbers."""
    numbers = isinstance(value, list | tuple) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in value)
    return numbers and len(value) == length  # type: ignore[arg-type]


def check_command(arguments: Sequence[str]) -> None:
    """Refuse an unknown verb or option of `python -m monai.bundle run`, and shorten this project's error messages.

    Args:
        arguments: `sys.argv`. Anything but a call of the bundle runner passes: then there is no command line to check.

    Raises:
        ValueError: names the nearest knob and all that are allowed.
    """
    if Path(arguments[0]).parts[-2:] != ("bundle", "__main__.py") or list(arguments[1:2]) != ["run"]:
        return
    sys.excepthook = show_error
    options = [word.lstrip("-").split("=")[0] for word in arguments[2:] if word.startswith("--")]
    words = option_values(arguments[2:])
    verb = words.get("run_id") or next(iter(arguments[2:3]), "")
    if verb not in VERBS:
        raise ValueError(f"got the verb {verb!r}; allowed are {', '.join(VERBS)}.")
    knobs = knobs_of(words["config_file"]) if "config_file" in words else []
    for option in options:
        if knobs and option.split("::")[0].split("#")[0] not in (*knobs, *RUNNER_OPTIONS):
            near = difflib.get_close_matches(option, knobs, n=1)
            hint = f" Did you mean --{near[0]}?" if near else ""
            raise ValueError(f"got the option --{option}, which no bundle has.{hint} Allowed are {', '.join(knobs)}.")


def option_values(arguments: Sequence[str]) -> dict[str, str]:
    """Return the options of a command line, written `--name value` or `--name=value`, with their words."""
    values = {}
    for position, word in enumerate(arguments):
        if word.startswith("--"):
            name, equals, value = word.lstrip("-").partition("=")
            following = arguments[position + 1] if position + 1 < len(arguments) else ""
            values[name] = value if equals else following
    return values


def knobs_of(config_file: str) -> list[str]:
    """Return the flat knobs of a bundle: its top-level keys that hold plain values."""
    config = json.loads(Path(config_file).read_text())
    return [key for key, value in config.items() if not isinstance(value, dict) and not is_reference(value)]


def is_reference(value: Any) -> bool:
    """Return whether a configuration value is a macro, or a list of expressions, rather than a knob's default."""
    if isinstance(value, list):
        return any(is_reference(item) or (isinstance(item, str) and item.startswith("$")) for item in value)
    return isinstance(value, str) and value.startswith(("%", "@"))
