"""Splits of a cohort into training and held-out subjects, the same on every machine.

A split is by person: all sessions of a subject are on one side. It is stratified by site and needs no random generator.
Once written it rules: nobody who is listed ever moves.
"""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from strokelesion.pipeline.datalist import Record
from strokelesion.pipeline.files import written_whole

logger = logging.getLogger(__name__)

COLUMNS = ["subject", "site", "fold", "folds", "seed"]


@dataclass(frozen=True)
class Split:
    """The two sides of one fold."""

    training: list[Record]
    held_out: list[Record]


def split_cohort(
    records: Sequence[Record],
    folds: int = 5,
    fold: int = 0,
    seed: int = 0,
    written: str | Path | None = None,
) -> Split:
    """Hold out one fold of the subjects of a cohort.

    Recipe:
        1. Subjects listed in `written` keep their fold, also when they are gone from the cohort (logged).
        2. The others are placed by `assign_folds` and appended to `written`.
        3. Subjects of `fold` are held out, all others are for training.

    Args:
        records: Scans as read by `read_cohort`; a subject belongs to the site of their first record.
        folds: Number of folds, 2 or more.
        fold: The fold to hold out, 0 to folds - 1.
        seed: Another seed gives another split.
        written: Path of a split CSV with the columns subject, site, fold, folds and seed. It rules if it exists and is
            written (beside, then renamed) if it does not. None: nothing is read or written.

    Returns:
        The records of both sides, in the order they came.

    Raises:
        ValueError: `fold` or `folds` is out of range, a side would be empty, or `written` is not the file of a split
            with these `folds` and this `seed`.
    """
    sites = _sites(records)
    _check_request(len(sites), folds, fold)
    path = None if written is None else Path(written)
    listed = _read(path, folds, seed) if path is not None and path.exists() else {}
    if gone := sorted(listed.keys() - sites.keys()):
        logger.warning("%d subjects of %s are not in the cohort and stay listed: %s", len(gone), path, gone[:10])
    placed = assign_folds(sites, folds, seed, listed)
    split = Split(
        training=[record for record in records if placed[record["subject"]] != fold],
        held_out=[record for record in records if placed[record["subject"]] == fold],
    )
    _check_sides(split, folds, fold, seed)
    if path is not None and placed.keys() != listed.keys():
        _write(path, {**sites, **{subject: site for subject, (site, _) in listed.items()}}, placed, folds, seed)
    return split


def scored_records(
    records: Sequence[Record], scored: str, folds: int, fold: int, seed: int, written: str | Path
) -> list[Record]:
    """Return the records to score: `all`, or those that the split of a run holds out (`held_out`). Writes nothing.

    Raises:
        ValueError: when there is no such split, or it holds out nobody of these records.
    """
    if scored == "all":
        return list(records)
    if not Path(written).is_file():
        raise ValueError(f"no split at {written}; expected that of a run. Train first, or score all scans: --scored all.")
    listed = _read(Path(written), folds, seed)
    held_out = [record for record in records if listed.get(record["subject"], ("", -1))[1] == fold]
    if not held_out:
        raise ValueError(
            f"{written} holds out none of these {len(records)} scans; expected some. Point --dataset_dir at the data set "
            "of the run, or score another one as a whole: --scored all."
        )
    return held_out


def assign_folds(
    sites: Mapping[str, str],
    folds: int,
    seed: int = 0,
    listed: Mapping[str, tuple[str, int]] | None = None,
) -> dict[str, int]:
    """Give every subject a fold, each site spread evenly over the folds.

    Recipe, within each site on its own, so that a new site moves nobody elsewhere:
        1. Order the subjects by sha256("{seed}:{subject}").
        2. fold = (floor(rank * folds / n_site) + offset) mod folds: blocks, so that one more subject shifts only those
           at their edges. The offset is sha256("{seed}:{site}") mod folds: small sites do not all land in fold 0.
        3. At a site with listed subjects the new ones go, in the same order, each to the fold that has the fewest.

    Args:
        sites: Site of each subject of the cohort.
        folds: Number of folds.
        seed: Seed of the order.
        listed: Site and fold of the subjects who are placed already.

    Returns:
        Fold of each subject: first those listed, as they were, then the new ones.
    """
    listed = listed or {}
    placed = {subject: fold for subject, (_, fold) in listed.items()}
    taken: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for site, fold in listed.values():
        taken[site][fold] += 1
    newcomers = defaultdict(list)
    for subject in sorted(sites.keys() - placed.keys(), key=lambda subject: _hash(seed, subject)):
        newcomers[sites[subject]].append(subject)
    for site, subjects in sorted(newcomers.items()):
        offset = _hash(seed, site) % folds
        count = len(subjects)
        chosen = _fill(taken[site], count, folds, offset) if site in taken else _blocks(count, folds, offset)
        placed.update(zip(subjects, chosen, strict=True))
    return placed


def _hash(seed: int, name: str) -> int:
    return int(hashlib.sha256(f"{seed}:{name}".encode()).hexdigest(), 16)


def _blocks(count: int, folds: int, offset: int) -> list[int]:
    return [(rank * folds // count + offset) % folds for rank in range(count)]


def _fill(taken: Counter[int], count: int, folds: int, offset: int) -> list[int]:
    sizes = taken.copy()
    chosen = []
    for _ in range(count):
        fold = min(range(folds), key=lambda fold: (sizes[fold], (fold - offset) % folds))
        sizes[fold] += 1
        chosen.append(fold)
    return chosen


def _sites(records: Sequence[Record]) -> dict[str, str]:
    sites: dict[str, str] = {}
    for record in records:
        sites.setdefault(record["subject"], record["site"])
    return sites


def _check_request(subjects: int, folds: int, fold: int) -> None:
    if folds < 2:
        raise ValueError(f"folds is {folds}; expected 2 or more, so that there is something to train on.")
    if not 0 <= fold < folds:
        raise ValueError(f"fold is {fold}; expected 0 to {folds - 1} with folds={folds}. Choose one of these.")
    if subjects < folds:
        raise ValueError(
            f"The cohort has {subjects} subjects; expected at least folds={folds}. Add subjects or choose fewer folds."
        )


def _check_sides(split: Split, folds: int, fold: int, seed: int) -> None:
    for side, records in (("held-out", split.held_out), ("training", split.training)):
        if not records:
            raise ValueError(
                f"The {side} side of fold {fold} is empty with folds={folds} and seed={seed}; expected at least one "
                "subject on each side. Choose another seed or fold, fewer folds, or another split file."
            )


def _read(path: Path, folds: int, seed: int) -> dict[str, tuple[str, int]]:
    table = _read_columns(path)
    for column, asked in (("folds", folds), ("seed", seed)):
        came = sorted(set(table[column]))
        if came != [asked]:
            raise ValueError(
                f"{path} was written with {column}={', '.join(map(str, came))}, but {column}={asked} was asked for. "
                "Ask for what the file says, or name another file for a new split."
            )
    twice = sorted(table["subject"][table["subject"].duplicated()])
    outside = sorted(table["subject"][~table["fold"].between(0, folds - 1)])
    if twice or outside:
        raise ValueError(
            f"{path} lists these subjects twice: {twice[:10]}, and these with a fold outside 0 to {folds - 1}: "
            f"{outside[:10]}. Expected each subject once. Restore the file as it was written, or name another one."
        )
    rows = zip(table["subject"], table["site"], table["fold"], strict=True)
    return {subject: (site, int(fold)) for subject, site, fold in rows}


def _read_columns(path: Path) -> pd.DataFrame:
    try:
        # Names stay text: a subject may be "031768" and a site "NA".
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        columns = list(table.columns)
        if columns == COLUMNS and not table.empty:
            return table.astype({"fold": int, "folds": int, "seed": int})
    except ValueError as error:
        columns = [str(error)]
    raise ValueError(
        f"{path} is not a split file: it has {columns}; expected rows with the columns {COLUMNS}, the last three whole "
        "numbers. Restore the file as it was written, or name another one."
    )


def _write(path: Path, sites: Mapping[str, str], placed: Mapping[str, int], folds: int, seed: int) -> None:
    rows = [(subject, sites[subject], fold, folds, seed) for subject, fold in placed.items()]
    with written_whole(path) as beside:
        pd.DataFrame(rows, columns=COLUMNS).to_csv(beside, index=False)
