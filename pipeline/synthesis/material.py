"""The raw material of synthetic scans, heads and lesion masks: the files in a folder, and who may learn from them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from strokelesion.networks import UserError

SIDES = ("training", "validation", "held_out")
Folders = str | Path | Sequence[str | Path]
Item = TypeVar("Item", bound=Mapping[str, Any])


def folders_in(folders: Folders) -> list[Path]:
    """Return one or several folders, given as a path, a list of paths or a text with commas, as a list.

    Raises:
        UserError: when one is not there.
    """
    named = folders.split(",") if isinstance(folders, str) else [folders] if isinstance(folders, Path) else folders
    places = [Path(str(name).strip()) for name in named]
    for place in places:
        if not place.is_dir():
            raise UserError(f"{place} is not a folder; expected folders, several separated by commas. Check the path.")
    return places


def files_in(folders: Folders) -> Iterator[Path]:
    """Yield all files below the folders, sorted, each once; hidden ones are passed over."""
    paths = {path for folder in folders_in(folders) for path in folder.rglob("*")}
    yield from (path for path in sorted(paths) if path.is_file() and not path.name.startswith("."))


def divide(items: Sequence[Item], side: str, shares: Sequence[float] = (0.7, 0.1, 0.2), seed: int = 0) -> list[Item]:
    """Return the items of one side; what training learns from is never validated or tested on.

    1. Sort the persons by name and permute them with the seed: the order of the items does not matter.
    2. Cut the permutation into three runs by the shares, rounded; of three persons or more each side gets at least one.
    3. An item is on the side of its person.

    Args:
        items: anything with `person`.
        side: `training`, `validation` or `held_out`.
        shares: of the persons, in the order of `SIDES`; they add up to 1.
        seed: of the permutation.

    Raises:
        UserError: when the side is none of the three, or the shares are not three above 0 that add up to 1.
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
    """Return where each side starts and stops among so many persons; held-out and validation are served first."""
    least = 1 if count >= len(SIDES) else 0
    held_out = max(least, round(count * shares[2]))
    validation = min(max(least, round(count * shares[1])), count - held_out - least)
    training = count - held_out - validation
    return [(0, training), (training, training + validation), (training + validation, count)]
