"""Assign persons to the parts of a split in one of four ways; subjects get the part of their person.

`WAYS` has one row for each way to split, with the form of the text that selects it. The code below the table is the same for
all ways.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.folds import assign_folds, assign_share, assign_sites
from strokelesion.pipeline.cohorts.records import Record
from strokelesion.pipeline.cohorts.split_files import Assignment, Fold, read_list
from strokelesion.pipeline.cohorts.split_forms import EXAMPLES, K_FOLD, LIST, SHARE, SITES, SplitTexts, is_split


@dataclass(frozen=True)
class People:
    """Person of each subject, site of each person, and fold of each person who has one already."""

    persons: dict[str, str]
    sites: dict[str, str]
    folds: dict[str, Fold]


@dataclass(frozen=True)
class Way:
    """A way to split.

    Attributes:
        form: Texts that select this way.
        assign: Function of the text, the people and the seed that returns the fold of each person.
        numbers: Function of the text and all assignments that returns the number of each part by its `--fold` value, in order.
    """

    form: SplitTexts
    assign: Callable[[str, People, int], dict[str, Fold]]
    numbers: Callable[[str, Iterable[Assignment]], dict[int | str, int]]


WAYS = (
    Way(
        form=K_FOLD,
        assign=lambda split, people, seed: _assign_folds(_count_folds(split), people, seed),
        numbers=lambda split, assignments: {number: number for number in range(_count_folds(split))},
    ),
    Way(
        form=SITES,
        assign=lambda split, people, seed: assign_sites(people.sites, people.folds),
        numbers=lambda split, assignments: {site: number for number, site in _list_held_out(assignments)},
    ),
    Way(
        form=SHARE,
        assign=lambda split, people, seed: assign_share(people.sites, float(split), seed, people.folds),
        numbers=lambda split, assignments: {0: 0},
    ),
    Way(
        form=LIST,
        # A written split already contains the folds of the list.
        assign=lambda split, people, seed: people.folds or _folds_of_list(Path(split), people),
        numbers=lambda split, assignments: {number: number for number, _ in _list_held_out(assignments)},
    ),
)


def find_way(split: str) -> Way:
    """Return the way that a text selects.

    Raises:
        UserError: The text selects none of `WAYS`; the message lists all forms.
    """
    if not is_split(split):
        raise UserError(f"split is {split!r}; allowed are {EXAMPLES}.")
    return next(way for way in WAYS if re.fullmatch(way.form.pattern, split))


def assign_subjects(
    records: Sequence[Record], split: str, seed: int, listed: Mapping[str, Assignment], source: Path | None
) -> dict[str, Assignment]:
    """Return the assignments of all subjects: first the listed ones, unchanged, then the new ones.

    Args:
        records: Records of the cohort.
        split: Text that selects the way to split.
        seed: Seed of the split.
        listed: Assignments of subjects who have one already. For subjects in the cohort, the person in the record counts.
        source: File with the listed subjects, for messages.

    Raises:
        UserError: The split does not exist, the cohort is too small for it, or a person would be on two sides.
    """
    people = identify_people(records, listed, source)
    folds = find_way(split).assign(split, people, seed)
    new = {subject: Assignment(person, people.sites[person], folds[person]) for subject, person in people.persons.items()}
    return new | dict(listed)


def identify_people(records: Sequence[Record], listed: Mapping[str, Assignment], source: Path | None) -> People:
    """Return the persons of all subjects, listed or in the cohort; a person's first assignment or record gives the site.

    Raises:
        UserError: The list puts a person on two sides.
    """
    persons = {subject: person for subject, (person, _, _) in listed.items()}
    persons |= {record["subject"]: record["person"] for record in records}
    sites: dict[str, str] = {}
    for subject, (_, site, _) in listed.items():
        sites.setdefault(persons[subject], site)
    for record in records:
        sites.setdefault(record["person"], record["site"])
    return People(persons, sites, _join_folds(persons, {subject: fold for subject, (_, _, fold) in listed.items()}, source))


def _join_folds(persons: Mapping[str, str], folds: Mapping[str, Fold], source: Path | None) -> dict[str, Fold]:
    """Return the one fold of each person from the folds of subjects; raise UserError if a person has two."""
    folds_of = defaultdict(set)
    for subject, fold in folds.items():
        folds_of[persons[subject]].add(fold)
    if torn := sorted((persons[subject], subject) for subject in folds if len(folds_of[persons[subject]]) > 1):
        names = ", ".join(f"{subject} (person {person})" for person, subject in torn[:10])
        raise UserError(
            f"{source} puts one person's subjects on two sides, {len(torn)} subjects in all: {names}. Expected one fold a "
            "person. Correct the list; if it is that of a run, name another folder for a new run: --run_dir."
        )
    return {person: fold for person, (fold,) in folds_of.items()}


def _assign_folds(folds: int, people: People, seed: int) -> dict[str, Fold]:
    if len(people.sites) < folds:
        raise UserError(
            f"The cohort has {len(people.sites)} persons; expected at least {folds} for {folds}-fold. Add persons or choose "
            "fewer folds."
        )
    return assign_folds(people.sites, folds, seed, people.folds)


def _folds_of_list(path: Path, people: People) -> dict[str, Fold]:
    return _join_folds(people.persons, read_list(path, people.persons), path)


def _count_folds(split: str) -> int:
    return int(split.removesuffix("-fold"))


def _list_held_out(assignments: Iterable[Assignment]) -> list[tuple[int, str]]:
    return sorted({(fold, site) for _, site, fold in assignments if fold is not None})
