"""HTML pages: Jinja files beside the modules that fill them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render_page(path: Path, filters: dict[str, Callable[..., str]] | None = None, **values: Any) -> str:
    """Return a page as HTML: a file, filled with values, all of which are escaped.

    Args:
        path: Jinja file.
        filters: Functions for the file's filters, by name.
        values: Values by the names that the file uses; a missing one is an error.
    """
    loader = FileSystemLoader(path.parent)
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters |= filters or {}
    return page.get_template(path.name).render(values)
