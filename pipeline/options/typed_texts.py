"""Keep texts as they were typed: paths such as `20260102`, `2026_01_02`, `a,b` and `x/run#2`.

The command line reader (fire) makes numbers and tuples of the first three; MONAI's parser reads `#` as `::`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fire.parser import DefaultParseValue

from strokelesion.pipeline.options.option_texts import allowed
from strokelesion.pipeline.options.settings import OPTIONS

# Characters at the beginning of a value that MONAI evaluates or refers with.
EVALUATED = ("$", "@", "%")
QUOTES, BRACKETS = ("'", '"'), ("[", "(", "{")


def plain_texts(given: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """Return the given options that are texts, as they were typed.

    Args:
        given: Options as they arrive from the command line or from Python.
        arguments: Arguments of the command line; they count where they are the source of what was given.
    """
    texts = {name: value for name, value in given.items() if is_text(name) and isinstance(value, str)}
    for name, typed in typed_options(arguments):
        if name in given and is_text(name) and DefaultParseValue(typed) == given[name] and not is_literal(name, typed):
            texts[name] = typed
    return {name: text for name, text in texts.items() if not text.startswith(EVALUATED)}


def typed_options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield names and texts of the options `--name text` and `--name=text` of a command line."""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if word.startswith("--"):
            name, is_joined, text = word[2:].partition("=")
            yield name.replace("-", "_"), text if is_joined else following


def is_text(name: str) -> bool:
    """Return whether an option is a text, or a list of texts with commas."""
    return name in OPTIONS and allowed(name).startswith(("text", "a name, or", "labels"))


def is_literal(name: str, typed: str) -> bool:
    """Return whether a typed text is meant as Python reads it: None, in quotes, or a list for an option that takes several."""
    takes_several = allowed(name) != "text"
    return typed == "None" or typed.startswith(QUOTES) or (takes_several and typed.startswith(BRACKETS))


def as_literal(value: Any) -> Any:
    """Return a value for a MONAI configuration: tuples as lists, and texts such that they are read as they are."""
    if isinstance(value, list | tuple):
        return [as_literal(item) for item in value]
    if isinstance(value, str) and ("#" in value or value.startswith(EVALUATED)):
        return "$" + re.sub(r"[#@%]", lambda sign: f"\\x{ord(sign[0]):02x}", repr(value))
    return value
