"""The command line's guard: each knob becomes its value here or is refused with the choices.

`python -m monai.bundle run` adds any option it does not know to the configuration, runs any key as a verb and hands words
on as they were typed ("false" is true). The bundles' `initialize` calls `check_command`, and their chapter `knobs` passes
every value through one of the functions below.
"""

import difflib
import json
import os
import re
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, TypeGuard

from fire.parser import DefaultParseValue

from strokelesion.pipeline.errors import show_error
from strokelesion.pipeline.placement import FORMS, is_split
from strokelesion.pipeline.ranks import launched
from strokelesion.transforms.planes import AXIAL, PLANES

VERBS = ("training", "evaluating", "inference", "shipping", "doctor", "synthesis", "experiments", "scoring", "reporting")
# Those that several processes do together.
SHARED_VERBS = ("training", "inference")
# Options of `monai.bundle run` itself.
RUNNER_OPTIONS = ("run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file")
COMPILERS = ("g++", "clang++", "c++", "cl")


def choice(name: str, value: object, allowed: Collection[str]) -> str:
    """Return a word that is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"--{name} got {value!r}; allowed are {', '.join(allowed)}.")
    return str(value)


def choices(name: str, value: object, allowed: Sequence[int | str]) -> list[int | str]:
    """Return one or several of `allowed`, given as a list or as words with commas; `all` is all of them."""
    if value == "all":
        return list(allowed)
    words = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    known = {str(choice): choice for choice in allowed}
    if not words or any(str(word) not in known for word in words):
        raise ValueError(f"--{name} got {value!r}; allowed are all, or some of {', '.join(known)}, with commas.")
    return [known[word] for word in dict.fromkeys(map(str, words))]


def given(name: str, value: object) -> str:
    """Return a value that has no default."""
    if value is None:
        raise ValueError(f"--{name} is missing; it has no default. Name it on the command line.")
    return str(value)


def flag(name: str, value: object) -> bool:
    """Return true or false from a boolean or from the words true and false."""
    word = str(value).lower()
    if word not in ("true", "false"):
        raise ValueError(f"--{name} got {value!r}; allowed are true, false.")
    return word == "true"


def brain_kept(name: str, value: object, needs_brain: bool) -> bool:
    """Return whether brain masks shall be kept, which asks for a run that looks for brains."""
    wanted = flag(name, value)
    if wanted and not needs_brain:
        raise ValueError(
            f"--{name} got true, but with --intensities tissue and --prepare none no brain is looked for. Use weights that were"
            " trained with --intensities brain, as those of bundles/resunet_synthetic.json."
        )
    return wanted


def compiled(name: str, value: object) -> bool:
    """Return whether a network shall be compiled, which needs a C++ compiler on this machine."""
    wanted = flag(name, value)
    if wanted and not any(map(shutil.which, (os.environ.get("CXX", "c++"), *COMPILERS))):
        raise ValueError(
            f"--{name} got true, and there is no C++ compiler; expected one of {', '.join(COMPILERS)}. Install one, or leave "
            f"--{name} out."
        )
    return wanted


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


def portion(name: str, value: object) -> float:
    """Return a number from 0 to 1, both included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"--{name} got {value!r}; allowed is a number from 0 to 1.")
    return float(value)


def split(name: str, value: object) -> str:
    """Return a way to split, as the text that `split_cohort` takes; a share may come as a number."""
    if not is_split(str(value)):
        raise ValueError(f"--{name} got {value!r}; allowed are {FORMS}.")
    return str(value)


def fold(name: str, value: object) -> int | str:
    """Return the part of a split to hold out: a whole number from 0, or the name of a site."""
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"--{name} got {value!r}; allowed are a whole number of at least 0 and the name of a site.")
    return value


def part(name: str, value: object) -> tuple[int, int] | None:
    """Return number and count of a part of the work, such as 3/16, the first being 1; None where there is one part only."""
    if value is None:
        return None
    numbers = re.fullmatch(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", str(value))
    if not numbers or int(numbers[1]) > int(numbers[2]):
        raise ValueError(
            f"--{name} got {value!r}; allowed are a part and the number of parts, from 1/16 to 16/16 where there are 16."
        )
    return int(numbers[1]), int(numbers[2])


def volume_ml(name: str, value: object) -> float:
    """Return a volume in milliliters of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < inf:
        raise ValueError(f"--{name} got {value!r}; allowed is a number of ml of at least 0.")
    return float(value)


def shipped(path: str | None) -> str:
    """Return the file of the weights that ship for a network, where there is one."""
    if path is None:
        raise ValueError(
            "no weights ship for this network; expected a file of them. Train it and name the run's best.pt with "
            "--checkpoint, or use bundles/resunet.json."
        )
    return path


def init(value: str | None, shipped_path: str | None, resume: bool) -> str | None:
    """Return the file that training starts from, if any; the word `weights` stands for the shipped ones."""
    if value is None:
        return None
    if resume:
        raise ValueError(
            f"got --init {value} and --resume true; allowed is one of them. A resumed run has weights: omit --init."
        )
    path = shipped(shipped_path) if value == "weights" else str(value)
    if not Path(path).is_file():
        raise ValueError(
            f"--init got {value!r}, and there is no file {path}; allowed are the word weights, for those that ship with the "
            "network, and a file that training or shipping wrote. Check the path."
        )
    return path


def spacing(name: str, value: object) -> list[float]:
    """Return a voxel size in mm along the three axes, from three numbers or from one for all."""
    edges = [value] * 3 if is_list([value], 1) else value
    if not is_list(edges, 3) or not 0.1 <= min(edges) <= max(edges) <= 10:
        raise ValueError(f"--{name} got {value!r}; allowed are one or three numbers of mm from 0.1 to 10, such as [1,1,1].")
    return [float(x) for x in edges]


def planes(name: str, value: object, spacing_mm: Sequence[float]) -> list[str]:
    """Return the planes that slices lie in, given as `choices` takes them; where they are not all axial, voxels are cubes."""
    chosen = [str(plane) for plane in choices(name, value, tuple(PLANES))]
    if chosen != [AXIAL] and len(set(spacing_mm)) > 1:
        raise ValueError(
            f"--{name} got {value!r} and --spacing_mm {list(spacing_mm)}; expected cubes, or slices of other planes have other "
            "pixels. Give one number to --spacing_mm, or --planes axial."
        )
    return chosen


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
    if not is_bundle_run(arguments):
        return
    sys.excepthook = show_error
    words = option_values(arguments[2:])
    config: dict[str, Any] = json.loads(Path(words["config_file"]).read_text()) if "config_file" in words else {}
    verb = words.get("run_id") or next(iter(arguments[2:3]), "")
    verbs = [name for name in VERBS if name in config] or VERBS
    if verb not in verbs:
        raise ValueError(f"got the verb {verb!r}; allowed are {', '.join(verbs)}.")
    if verb not in SHARED_VERBS and launched() > 1:
        raise ValueError(f"got {launched()} processes for {verb}, which takes one. Start it without torch.distributed.run.")
    if verb == "experiments" and "args_file" in words:
        raise ValueError("got --args_file, which experiments cannot hand on to its runs. Give the options on the command line.")
    knobs = [*knobs_of(config), *(knobs_taken(config["runs_take"]) if verb == "experiments" and config else [])]
    for option in words if config else ():
        if option.split("::")[0].split("#")[0] not in (*knobs, *RUNNER_OPTIONS):
            near = difflib.get_close_matches(option, knobs, n=1)
            hint = f" Did you mean --{near[0]}?" if near else ""
            raise ValueError(f"got the option --{option}, which {verb} does not have.{hint} Allowed are {', '.join(knobs)}.")


def is_bundle_run(arguments: Sequence[str]) -> bool:
    """Return whether `sys.argv` is a call of `python -m monai.bundle run`."""
    return Path(arguments[0]).parts[-2:] == ("bundle", "__main__.py") and list(arguments[1:2]) == ["run"]


def handed_on(arguments: Sequence[str], runs_take: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a command line that are meant for each run of the verb `experiments`, with their values.

    Args:
        arguments: `sys.argv`. Nothing is handed on but from a call of the bundle runner.
        runs_take: which knobs runs take, see `knobs_taken`.
    """
    words = option_values(arguments[2:]) if is_bundle_run(arguments) else {}
    # As the bundle runner would read them.
    return {name: DefaultParseValue(words[name]) for name in knobs_taken(runs_take) if name in words}


def knobs_taken(runs_take: Mapping[str, Any]) -> list[str]:
    """Return the knobs of the bundle file `knobs_of` without those in `but`."""
    bundle = json.loads(Path(runs_take["knobs_of"]).read_text())
    return [name for name in knobs_of(bundle) if name not in runs_take["but"]]


def option_values(arguments: Sequence[str]) -> dict[str, str]:
    """Return the options of a command line, written `--name value` or `--name=value`, with their words."""
    values = {}
    for position, word in enumerate(arguments):
        if word.startswith("--"):
            name, equals, value = word.lstrip("-").partition("=")
            following = arguments[position + 1] if position + 1 < len(arguments) else ""
            values[name] = value if equals else following
    return values


def knobs_of(config: Mapping[str, Any]) -> list[str]:
    """Return the flat knobs of a bundle: its top-level keys that hold plain values."""
    return [key for key, value in config.items() if not isinstance(value, dict) and not is_reference(value)]


def is_reference(value: Any) -> bool:
    """Return whether a configuration value is a macro, or a list of expressions, rather than a knob's default."""
    if isinstance(value, list):
        return any(is_reference(item) or isinstance(item, dict) or str(item).startswith("$") for item in value)
    return isinstance(value, str) and value.startswith(("%", "@"))
