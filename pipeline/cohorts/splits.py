"""Split a cohort into training and held-out records, in the same way on every machine.

A split keeps persons together: all sessions and releases of a person are on one side. It uses no random generator. A written
split is fixed: listed subjects keep their fold.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.records import Record
from strokelesion.pipeline.cohorts.split_files import Assignment, is_list, read_split, write_split
from strokelesion.pipeline.cohorts.split_ways import assign_subjects, find_way, identify_people
from strokelesion.pipeline.cohorts.validation_scans import refuse_validation_scans
from strokelesion.pipeline.runtime.processes import is_first

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """The two sides of a split, of scans on disk or of synthetic scans.

    Attributes:
        training: Scans to train on.
        held_out: Scans to validate on.
        shown: Number of training scans in an epoch; None means all.
        renewed: Number of training scans by which the next epoch's first scan moves on.
    """

    training: Sequence[Mapping[str, object]]
    held_out: Sequence[Mapping[str, object]]
    shown: int | None = None
    renewed: int = 0


def split_cohort(
    records: Sequence[Record],
    split: str = "5-fold",
    fold: int | str = 0,
    seed: int = 0,
    written: str | Path | None = None,
) -> Split:
    """Return the records of a cohort split in two: the persons of one part are held out.

    | split | parts | fold |
    |---|---|---|
    | 5-fold (any number from 2) | 5 folds, each site spread evenly (`assign_folds`) | 0 to 4 |
    | leave-one-site-out | the sites, sorted by name | a site's name or number |
    | 0.2 (between 0 and 1) | one part with this share of the persons, of each site if possible (`assign_share`) | 0 |
    | FILE.csv | folds from a table of subjects and folds, or of held-out subjects (`read_list`) | a listed fold |

    Recipe:
        1. Subjects listed in `written` keep their fold, also if they are no longer in the cohort (logged).
        2. Other subjects of the same persons get the same fold.
        3. All other persons are assigned according to `split`, and the new subjects are appended to `written`. A fixed list
           accepts no new subjects: its cohort must stay the same.
        4. The persons of `fold` are held out; all others are for training.

    Args:
        records: Scans as read by `read_cohort`; the first record of a person decides the person's site.
        split: Form of the split, see the table.
        fold: Part to hold out. If a value is both a site's name and a number, it means the name.
        seed: Seed of the split, for the forms that depend on it.
        written: Path of the split file. An existing file decides; a missing one is written under a temporary name and then
            renamed. None: nothing is read or written.

    Returns:
        Records of both sides, in the given order.

    Raises:
        UserError: `split` or `fold` does not exist, a side would be empty, a list puts a person on two sides, a training scan
            is for validation only, or `written` is not the file of this `split` and `seed`.
    """
    path = None if written is None else Path(written)
    listed, assigned = _assign_all(records, split, seed, path)
    number = _find_number(fold, split, assigned)
    sides = Split(
        training=[record for record in records if assigned[record["subject"]].fold != number],
        held_out=[record for record in records if assigned[record["subject"]].fold == number],
    )
    _check_sides(sides, split, fold, seed)
    refuse_validation_scans(sides.training)
    if path is not None and assigned.keys() != listed.keys() and is_first():
        write_split(path, assigned, split, seed)
    return sides


def train_on_all(records: Sequence[Record]) -> Split:
    """Return a split that holds no scan out; training needs one to validate on, so the first one is on both sides.

    Raises:
        UserError: A scan was made for validation only.
    """
    refuse_validation_scans(records)
    return Split(records, records[:1])


def scored_records(
    records: Sequence[Record], scored: str, split: str, fold: int | str, seed: int, written: str | Path
) -> list[Record]:
    """Return the records to score: `all`, or those that the split of a run holds out (`held_out`). Nothing is written.

    Raises:
        UserError: The split is missing, holds out none of these records, or puts a person on two sides.
    """
    if scored == "all":
        return list(records)
    path = Path(written)
    if not path.is_file():
        raise UserError(f"no split at {path}; expected that of a run. Train first, or score all scans: --scored all.")
    listed = _read(path, split, seed)
    identify_people(records, listed, path)  # refuses whom the records show to be on two sides
    number = _find_number(fold, split, listed)
    held_out = [r for r in records if r["subject"] in listed and listed[r["subject"]].fold == number]
    if not held_out:
        raise UserError(
            f"{path} holds out none of these {len(records)} scans; expected some. Point --dataset_dir at the data set "
            "of the run, or score another one as a whole: --scored all."
        )
    return held_out


def list_parts(records: Sequence[Record], split: str, seed: int = 0, written: str | Path | None = None) -> list[int | str]:
    """Return all values of `fold` that a split has for a cohort, in order: numbers, or the names of the sites.

    `written` is a split file that runs share; it is read and written as in `split_cohort`.
    """
    path = None if written is None else Path(written)
    listed, assigned = _assign_all(records, split, seed, path)
    if path is not None and assigned.keys() != listed.keys():
        write_split(path, assigned, split, seed)
    return list(find_way(split).numbers(split, assigned.values()))


def _assign_all(
    records: Sequence[Record], split: str, seed: int, path: Path | None
) -> tuple[dict[str, Assignment], dict[str, Assignment]]:
    """Return the assignments listed in the file, if it exists, and those of all subjects."""
    listed = _read(path, split, seed) if path is not None and path.exists() else {}
    if path is not None and listed:
        _check_cohort(records, listed, split, path)
    return listed, assign_subjects(records, split, seed, listed, path)


def _read(path: Path, split: str, seed: int) -> dict[str, Assignment]:
    listed = read_split(path, split, seed)
    numbers = find_way(split).numbers(split, listed.values())
    stray = [
        subject
        for subject, (_, site, fold) in listed.items()
        if fold is not None and fold not in (numbers.get(fold), numbers.get(site))
    ]
    if stray:
        raise UserError(
            f"{path} puts {stray[:10]} in folds that split={split} does not have for them; expected "
            f"{numbers}. Restore the file as it was written, or name another folder for a new run: --run_dir."
        )
    return listed


def _find_number(fold: int | str, split: str, assigned: Mapping[str, Assignment]) -> int:
    """Return the number of the part that `--fold` gives by name or number."""
    numbers = {str(name): number for name, number in find_way(split).numbers(split, assigned.values()).items()}
    if str(fold) in numbers:
        return numbers[str(fold)]
    if isinstance(fold, int) and fold in numbers.values():
        return fold
    raise UserError(f"fold is {fold!r}; allowed with split={split} are {', '.join(numbers)}. Choose one of these.")


def _check_cohort(records: Sequence[Record], listed: Mapping[str, Assignment], split: str, path: Path) -> None:
    subjects = {record["subject"] for record in records}
    gone, new = sorted(listed.keys() - subjects), sorted(subjects - listed.keys())
    if is_list(split) and (gone or new):
        raise UserError(
            f"{path} was written from the list {split} for another cohort: gone are {gone[:10]}, new are {new[:10]}. "
            "Expected the same subjects. Restore the data set, or name another folder for a new run: --run_dir."
        )
    if gone:
        logger.warning("%d subjects of %s are not in the cohort and stay listed: %s", len(gone), path, gone[:10])


def _check_sides(sides: Split, split: str, fold: int | str, seed: int) -> None:
    persons = {record["person"] for record in (*sides.training, *sides.held_out)}
    advice = "Choose another seed, fold or split." if len(persons) > 1 else "The cohort has one person: add scans of others."
    for side, records in (("held-out", sides.held_out), ("training", sides.training)):
        if not records:
            raise UserError(
                f"The {side} side of fold {fold} is empty with split={split} and seed={seed}; expected at least one person "
                f"on each side. {advice}"
            )
