"""Write the table of all options for the documentation.

python -m strokelesion.pipeline.options.option_table > docs/options.md
"""

from strokelesion.pipeline.options.option_texts import allowed, shown_default
from strokelesion.pipeline.options.settings import OPTIONS, Settings

HEAD = """# Options

Generated from [`settings.py`](../pipeline/options/settings.py) with `python -m strokelesion.pipeline.options.option_table`.
On the command line an option is `--option value`, in Python an argument of `monai.bundle.run`. Only `strokelesion segment` and
`strokelesion group` take `scans` and `output_dir` by position, without their names, and need both. The bundle files list the
common options at their top, and other defaults where they have some. These commands of the program have another name in the
bundle files, which the tables below use:

| program | bundle file |
|---|---|
| `segment` | `inference` |
| `train` | `training` |
| `evaluate` | `evaluating` |
| `score` | `scoring` |
| `report` | `reporting` |
| `synthesize` | `synthesis` |

## Basic options
"""


def as_markdown() -> str:
    """Return the page as Markdown: first the options that most users need, then the others."""
    return f"{HEAD}\n{table(is_basic=True)}\n\n## Advanced options\n\n{table(is_basic=False)}\n"


def table(is_basic: bool) -> str:
    """Return the table of the basic options, or of the others."""
    rows = ["| option | default | allowed | what it does | commands |", "|---|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        if (about := OPTIONS[name]).is_basic is is_basic:
            cells = (f"`{name}`", shown_default(name), allowed(name), field.description, ", ".join(about.commands))
            rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(as_markdown(), end="")
