"""Texts about the options: their groups, their allowed values and their defaults, for help, messages and documentation."""

from typing import Any

from strokelesion.pipeline.options.option_types import allowed_values
from strokelesion.pipeline.options.settings import OPTIONS, Settings

# Groups of options for the help, each with the name of its first option.
GROUPS = {
    "data": "dataset_dir",
    "input of the network": "intensities",
    "training": "run_dir",
    "model": "weights",
    "new scans": "scans",
    "synthetic scans": "heads",
    "data sets, experiments and reports": "doctor_csv",
}


def grouped() -> dict[str, list[str]]:
    """Return the names of all options by the title of their group, see `GROUPS`."""
    titles = {first: title for title, first in GROUPS.items()}
    groups: dict[str, list[str]] = {}
    names: list[str] = []
    for name in OPTIONS:
        names = groups.setdefault(titles[name], []) if name in titles else names
        names.append(name)
    return groups


def allowed(name: str) -> str:
    """Return the text that names the allowed values of an option."""
    return allowed_values(Settings.__annotations__[name])


def shown_default(name: str) -> str:
    """Return the default of an option as text for the documentation, with its unit."""
    about = OPTIONS[name]
    return f"{about.default or f'`{as_typed(Settings.model_fields[name].default)}`'} {about.unit}".strip()


def as_typed(default: Any) -> str:
    """Return a default as typed on the command line."""
    if isinstance(default, tuple):
        return ",".join(default) if isinstance(default[0], str) else f"[{','.join(f'{number:g}' for number in default)}]"
    return str(default).lower() if isinstance(default, bool) else str(default)
