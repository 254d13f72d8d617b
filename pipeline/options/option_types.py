"""Types of the options in `settings.py`: their properties, functions that read a value, texts that name the allowed values.

MONAI's runner parses the values of the command line: `false` is a string, `0.2` a number, `a,b` a tuple.
"""

import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import inf
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BeforeValidator, Field

from strokelesion.networks import CommandLineError
from strokelesion.pipeline.cohorts.split_forms import EXAMPLES, is_split


class About(NamedTuple):
    """Properties of an option besides its type and default.

    Attributes:
        commands: Commands that take the option.
        part: Part of a model's description that records it: `protocol`, `held_out`, `training` or none.
        unit: Unit of the value.
        is_basic: Whether most users need it.
        default: Meaning of the default `None`.
    """

    commands: tuple[str, ...]
    part: str = ""
    unit: str = ""
    is_basic: bool = False
    default: str = ""


def option(default: Any, about: About, description: str) -> Any:
    """Return the field of an option for `Settings`."""
    return Field(default, description=description, json_schema_extra={"about": about})  # type: ignore[dict-item]


@dataclass(frozen=True)
class Allowed:
    """Text that names the allowed values of a type, for messages and for the table of options."""

    text: str


def allowed_values(annotation: Any) -> str:
    """Return the text that names the allowed values of an option's type."""
    if get_origin(annotation) is Literal:
        return ", ".join(map(str, get_args(annotation)))
    texts = [part.text for part in get_args(annotation) if isinstance(part, Allowed)]
    nested = [allowed_values(part) for part in get_args(annotation) if not isinstance(part, Allowed)]
    return next(iter([*texts, *filter(None, nested)]), "")


def reads_switch(value: Any) -> Any:
    """Return true or false from a boolean or from the words true and false."""
    words = {"true": True, "false": False}
    return words.get(str(value).lower(), value)


def reads_text(value: Any) -> Any:
    """Return a path as text, and any other value unchanged."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def reads_spacing(value: Any) -> Any:
    """Return three edges in mm, from three numbers or from one number for all axes."""
    edges = [value] * 3 if is_number(value) else value
    if not is_numbers(edges, 3) or not all(0.1 <= edge <= 10 for edge in edges):
        raise ValueError
    return tuple(float(edge) for edge in edges)


def reads_extent(value: Any) -> Any:
    """Return two extents in mm."""
    if not is_numbers(value, 2) or not all(32 <= extent <= 1024 for extent in value):
        raise ValueError
    return tuple(float(extent) for extent in value)


def reads_split(value: Any) -> str:
    """Return a split as text; a share may be given as a number."""
    if not is_split(str(value)):
        raise ValueError
    return str(value)


def reads_fold(value: Any) -> int | str:
    """Return the number of a part, or the name of a site."""
    is_name = isinstance(value, str) and value.strip()
    if not is_name and not (is_number(value) and isinstance(value, int) and value >= 0):
        raise ValueError
    fold: int | str = value
    return fold


def reads_seeds(value: Any) -> tuple[int, ...]:
    """Return seeds, each once, from one or several numbers."""
    seeds = [int(str(word)) for word in words_of(value)]
    if not seeds or min(seeds) < 0:
        raise ValueError
    return tuple(dict.fromkeys(seeds))


class PartOfScans(NamedTuple):
    """Part of the scans: its number, counted from 1, and the number of parts."""

    number: int
    parts: int


def reads_part(value: Any) -> PartOfScans | None:
    """Return a part from a text such as 3/16."""
    if value is None or isinstance(value, PartOfScans):
        return value
    numbers = re.fullmatch(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", str(value))
    if not numbers or int(numbers[1]) > int(numbers[2]):
        raise ValueError
    return PartOfScans(int(numbers[1]), int(numbers[2]))


def is_number(value: Any) -> bool:
    """Return whether a value is a number; true and false are not numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_numbers(value: Any, length: int) -> bool:
    """Return whether a value is a list or tuple of `length` numbers."""
    return isinstance(value, list | tuple) and len(value) == length and all(map(is_number, value))


def chosen(name: str, value: Any, allowed: Collection[int | str]) -> tuple[int | str, ...]:
    """Return one or several of `allowed`, from a list or from words with commas; `all` means all.

    Raises:
        CommandLineError: The value contains something else or nothing.
    """
    known = {str(choice): choice for choice in allowed}
    words = dict.fromkeys(map(str, words_of(value)))
    if value == "all":
        return tuple(allowed)
    if not words or not words.keys() <= known.keys():
        raise CommandLineError(f"--{name} got {value!r}; allowed are all, or some of {', '.join(known)}, with commas.")
    return tuple(known[word] for word in words)


def words_of(value: Any) -> list[Any]:
    """Return the items of a list, or the words of a text with commas."""
    return value.split(",") if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [value]


def some_of(*allowed: str) -> tuple[Any, ...]:
    """Return the annotations of an option whose value is one or several of the allowed words."""
    reader: Callable[[Any], Any] = lambda value: chosen("", value, allowed)  # noqa: E731
    return BeforeValidator(reader), Allowed(f"all, or some of {', '.join(allowed)}, with commas")


Text = Annotated[str, BeforeValidator(reads_text), Allowed("text")]
Switch = Annotated[bool, BeforeValidator(reads_switch), Allowed("true, false")]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$"), Allowed("auto, cpu, cuda or cuda:N")]
Count = Annotated[int, Field(ge=1), Allowed("a whole number of at least 1")]
Index = Annotated[int, Field(ge=0), Allowed("a whole number of at least 0")]
Seed = Annotated[int, Field(ge=0, le=2**31), Allowed(f"a whole number from 0 to {2**31}")]
PositiveShare = Annotated[float, Field(gt=0, le=1), Allowed("a number above 0 and at most 1")]
Portion = Annotated[float, Field(ge=0, le=1), Allowed("a number from 0 to 1")]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1), Allowed("a number from 0 to below 1")]
VolumeMl = Annotated[float, Field(ge=0, lt=inf), Allowed("a number of ml of at least 0")]
SpacingMm = Annotated[
    tuple[float, float, float],
    BeforeValidator(reads_spacing),
    Allowed("one or three numbers of mm from 0.1 to 10, such as [1,1,1]"),
]
ExtentMm = Annotated[
    tuple[float, float], BeforeValidator(reads_extent), Allowed("two numbers of mm from 32 to 1024, such as [192,224]")
]
Seeds = Annotated[tuple[int, ...], BeforeValidator(reads_seeds), Allowed("whole numbers of at least 0, with commas")]
SplitForm = Annotated[str, BeforeValidator(reads_split), Allowed(EXAMPLES)]
Fold = Annotated[int | str, BeforeValidator(reads_fold), Allowed("a whole number of at least 0 and the name of a site")]
Part = Annotated[
    PartOfScans,
    BeforeValidator(reads_part),
    Allowed("a part and the number of parts, from 1/16 to 16/16 where there are 16"),
]
Words = Annotated[Any, Allowed("a name, or several with commas")]
