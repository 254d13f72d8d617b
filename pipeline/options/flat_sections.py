"""Sections of a running bundle as plain configuration, with values in place of references, for the command `package`.

Other programs read a packaged bundle without `apply_options`, so nothing in it may depend on the options of this project.
"""

from typing import Any

from monai.bundle import ConfigParser

CHAINS = ("Compose", "strokelesion.transforms.Recipe")
# Sections of a packaged bundle that other sections refer to.
KEPT = ("device", "preprocessing", "brain_extractor")


def flatten_section(parser: ConfigParser, path: str) -> Any:
    """Return a section with the values of all references to other sections than `KEPT`, and of all expressions.

    Disabled components of lists are left out, and chains of transforms in chains are joined.

    Args:
        parser: Configuration of the running command.
        path: Name of the section, with `::` before its parts.
    """
    content = parser[path]
    if isinstance(content, dict):
        return {name: flatten_section(parser, f"{path}::{name}") for name in content if name != "_disabled_"}
    if isinstance(content, list | tuple):
        paths = [f"{path}::{index}" for index in range(len(content))]
        return [part for item in paths if not is_disabled(parser, item) for part in unchained(flatten_section(parser, item))]
    if isinstance(content, str) and content.startswith("@"):
        return content if content[1:] in KEPT else value_or_section(parser, content[1:])
    return parser.get_parsed_content(path) if isinstance(content, str) and content.startswith("$") else content


def value_or_section(parser: ConfigParser, name: str) -> Any:
    """Return what a section computes if this is a number, a text or a list of them, and else the section itself."""
    value = parser.get_parsed_content(name)
    value = list(value) if isinstance(value, tuple) else value
    parts = value if isinstance(value, list) else [value]
    return value if all(isinstance(part, int | float | str | None) for part in parts) else flatten_section(parser, name)


def is_disabled(parser: ConfigParser, path: str) -> bool:
    """Return whether a component is disabled with the options of the running command."""
    content = parser[path]
    return isinstance(content, dict) and "_disabled_" in content and bool(parser.get_parsed_content(f"{path}::_disabled_"))


def unchained(component: Any) -> list[Any]:
    """Return the transforms of a chain, or the component alone."""
    is_chain = isinstance(component, dict) and component.get("_target_") in CHAINS
    return component["transforms"] if is_chain else [component]
