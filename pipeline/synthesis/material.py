"""Input files of synthetic scans (heads and lesion masks), and their division into training, validation and held-out."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from strokelesion.networks import UserError
from strokelesion.pipeline.runtime.walking import walk

SIDES = ("training", "validation", "held_out")
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


def divide(items: Sequence[Item], side: str, shares: Sequence[float] = (0.7, 0.1, 0.2), seed: int = 0) -> list[Item]:
    """Return the items of one side. No person is on two sides, so that training never sees validation or test persons.

    1. Sort the persons by name and permute them with the seed. The result does not depend on the order of the items.
    2. Divide the permutation into three parts by the shares, rounded. With three or more persons, each side has at least one.
    3. Assign each item to the side of its person.

    Args:
        items: Mappings with the key `person`.
        side: `training`, `validation` or `held_out`.
        shares: Shares of the persons, in the order of `SIDES`, with a sum of 1.
        seed: Random seed of the permutation.

    Raises:
        UserError: The side is unknown, or the shares are not three positive numbers with a sum of 1.
    """
    if side not in SIDES:
        raise UserError(f"got side {side!r}; allowed are {', '.join(SIDES)}.")
    if len(shares) != len(SIDES) or min(shares) <= 0 or not np.isclose(sum(shares), 1):
        raise UserError(f"got shares {shares}; expected three above 0 that add up to 1, for {', '.join(SIDES)}.")
    persons = np.random.default_rng(seed).permutation(sorted({item["person"] for item in items}))
    start, stop = cuts(len(persons), shares)[SIDES.index(side)]
    chosen = set(persons[start:stop].tolist())
    return [item for item in items if item["person"] in chosen]


def cuts(count: int, shares: Sequence[float]) -> list[tuple[int, int]]:
    """Return start and stop of each side for a number of persons; training gets the rest after held-out and validation."""
    least = 1 if count >= len(SIDES) else 0
    held_out = max(least, round(count * shares[2]))
    validation = min(max(least, round(count * shares[1])), count - held_out - least)
    training = count - held_out - validation
    return [(0, training), (training, training + validation), (training + validation, count)]
