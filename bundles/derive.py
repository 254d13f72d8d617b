"""Write the bundle files that differ from another one in a few sections, and keep all of them in one layout.

    python bundles/derive.py

Each row of `DERIVED` names a bundle file that starts from `resunet.json`, the sections that it takes from `synthesis.json`, and
those that it leaves out; its own sections stand in `overrides/` under the same name. Edit `resunet.json`, `synthesis.json`,
`experiments.json`, `packaged.json` and `overrides/`; the other bundle files are written by this program.
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
WIDTH = 128
BASE = "resunet"
SYNTHETIC = ("compose", "sides")
# Scans with masks, new scans and what is done with them: files for training on synthetic scans have none of it.
NOT_SYNTHETIC = (
    *("dataset_dir", "split", "split_seed", "fold", "sub_lesions", "scans", "cohort", "split_csv", "traced", "is_unprepared"),
    *("registrations", "preprocessing", "postprocessing", "decide", "dataset", "evaluator", "applied", "results"),
    *("evaluation_dir", "scorable", "evaluating", "scoring", "inference", "group", "package", "doctor"),
)
# All scans are for training, and the model is written at its end.
HELD_OUT = ("split", "split_seed", "fold", "split_csv", "evaluation_dir", "scorable", "evaluating", "scoring", "release")
IN_BRAIN = ("intensities", "in_tissue", "in_brain", "place")
DERIVED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "unet": ((), ()),
    "segnet": ((), ()),
    "resunet_synthetic": (SYNTHETIC, NOT_SYNTHETIC),
    "adapt": ((), HELD_OUT),
    "brain": (SYNTHETIC, (*NOT_SYNTHETIC, *IN_BRAIN)),
}
WRITTEN_BY_HAND = ("resunet", "synthesis", "experiments", "packaged")


def read(name: str) -> dict[str, Any]:
    """Return a bundle file's sections."""
    sections: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return sections


def derive(name: str) -> dict[str, Any]:
    """Return the sections of a derived bundle file, in the order of the file that it starts from."""
    taken, left_out = DERIVED[name]
    synthesis = read("synthesis")
    own = read(f"overrides/{name}")
    sections = read(BASE) | {section: synthesis[section] for section in taken} | own
    return {section: content for section, content in sections.items() if section in own or section not in left_out}


def layout(content: Any, indent: int = 0, before: int = 0) -> str:
    """Return JSON in which whatever fits into a line stands on one.

    Options and sections of a file have lines of their own. Of a component, `_target_` stands beside its name, and the other
    arguments stand below, several on a line.

    Args:
        content: What is written.
        indent: Spaces before its last line.
        before: Characters before its first line, the indent aside.
    """
    line = json.dumps(content)
    if not isinstance(content, dict | list) or (indent and indent + before + len(line) < WIDTH):
        return line
    if not isinstance(content, dict) or "_target_" not in content:
        start, end = "{}" if isinstance(content, dict) else "[]"
        return "\n".join([start, *lines(parts_of(content, indent + 2), indent + 2, fill=False), " " * indent + end])
    start = f'{{"_target_": {json.dumps(content["_target_"])},'
    arguments = {name: value for name, value in content.items() if name != "_target_"}
    (name, value), *others = arguments.items()
    beside = f"{start} {json.dumps(name)}: "
    if not others and isinstance(value, list):
        return beside + layout(value, indent, before + len(beside)) + "}"
    body = lines(parts_of(arguments, indent + 2), indent + 2, fill=True)
    return "\n".join([start, *body]) + ("}" if "\n" not in body[-1] else f"\n{' ' * indent}}}")


def parts_of(content: Any, indent: int) -> list[str]:
    """Return the JSON of each part of an object or list, with its name."""
    if isinstance(content, list):
        return [layout(value, indent) for value in content]
    names = {name: f"{json.dumps(name)}: " for name in content}
    return [names[name] + layout(value, indent, len(names[name])) for name, value in content.items()]


def lines(parts: list[str], indent: int, fill: bool) -> list[str]:
    """Return the parts of an object as lines with commas; with `fill`, those of one line share it."""
    filled: list[str] = []
    for part in [*(f"{part}," for part in parts[:-1]), parts[-1]]:
        joined = f"{filled[-1]} {part}" if filled else ""
        if fill and filled and "\n" not in joined and "{" not in joined and len(joined) < WIDTH:
            filled[-1] = joined
        else:
            filled.append(" " * indent + part)
    return filled


def files() -> dict[str, str]:
    """Return the text of every bundle file by its name."""
    by_hand = {name: read(name) for name in (*WRITTEN_BY_HAND, *(f"overrides/{name}" for name in DERIVED))}
    return {name: layout(sections) + "\n" for name, sections in (by_hand | {name: derive(name) for name in DERIVED}).items()}


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / f"{name}.json").write_text(text)
