"""Input files of synthetic scans (heads and lesion masks), and their division into training, validation and held-out."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from strokelesion.networks import UserError
from strokelesion.pipeline.runtime.walking import walk

SIDES = ("training", "validation", "held_out")
SHARES = (0.7, 0.1, 0.2)
Folders = str | Path | Sequence[str | Path]
Item = TypeVar("Item", bound=Mapping[str, Any])


def folders_in(folders: Folders) -> list[Path]:
    """Return a list of folders from a path, a list of paths or comma-separated text.

    Raises:
        UserError: A folder does not exist.
    """
    named = folders.split(",") if isinstance(folders, str) else [folders] if isinstance(folders, Path) else folders
    paths = [Path(str(name).strip()) for name in named]
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path} is not a folder; expected folders, several separated by commas. Check the path.")
    return paths


def files_in(folders: Folders) -> Iterator[Path]:
    """Yield all files below the folders, sorted, each once, without hidden files."""
    walks = (found for folder in folders_in(folders) for found in walk(folder))
    paths = {folder / name for folder, _, names in walks for name in names}
    yield from (path for path in sorted(paths) if path.is_file())


def divide(items: Sequence[Item], side: str) -> list[Item]:
    """Return the items of one side. No person is on two sides, so that training never sees validation or test persons.

    1. Sort the persons by name and permute them with a fixed seed. The result does not depend on the order of the items.
    2. Divide the permutation into three parts by `SHARES`, rounded. With three or more persons, each side has at least one.
    3. Assign each item to the side of its person.

    Args:
        items: Mappings with the key `person`.
        side: `training`, `validation` or `held_out`.

    Raises:
        UserError: The side is unknown.
    """
    if side not in SIDES:
        raise UserError(f"got side {side!r}; allowed are {', '.join(SIDES)}.")
    persons = np.random.default_rng(0).permutation(sorted({item["person"] for item in items}))
    start, stop = cuts(len(persons))[SIDES.index(side)]
    chosen = set(persons[start:stop].tolist())
    return [item for item in items if item["person"] in chosen]


def cuts(count: int) -> list[tuple[int, int]]:
    """Return start and stop of each side for a number of persons; training gets the rest after held-out and validation."""
    least = 1 if count >= len(SIDES) else 0
    held_out = max(least, round(count * SHARES[2]))
    validation = min(max(least, round(count * SHARES[1])), count - held_out - least)
    training = count - held_out - validation
    return [(0, training), (training, training + validation), (training + validation, count)]
