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
from strokelesion.pipeline.cohorts.split_files import Fold, Place, read_list


@dataclass(frozen=True)
class People:
    """Person of each subject, site of each person, and fold of each person who has one already."""

    persons: dict[str, str]
    sites: dict[str, str]
    placed: dict[str, Fold]


@dataclass(frozen=True)
class Way:
    """A way to split.

    Attributes:
        form: Regular expression of the texts that select this way.
        example: Example of such a text, with the other allowed values.
        assign: Function of the text, the people and the seed that returns the fold of each person.
        numbers: Function of the text and all places that returns the number of each part by its `--fold` value, in order.
    """

    form: str
    example: str
    assign: Callable[[str, People, int], dict[str, Fold]]
    numbers: Callable[[str, Iterable[Place]], dict[int | str, int]]


WAYS = (
    Way(
        form=r"([2-9]|[1-9][0-9]+)-fold",
        example="5-fold (any number from 2)",
        assign=lambda split, people, seed: _assign_folds(_count(split), people, seed),
        numbers=lambda split, places: {number: number for number in range(_count(split))},
    ),
    Way(
        form="leave-one-site-out",
        example="leave-one-site-out",
        assign=lambda split, people, seed: assign_sites(people.sites, people.placed),
        numbers=lambda split, places: {site: number for number, site in _held_out(places)},
    ),
    Way(
        form=r"0?\.[0-9]*[1-9][0-9]*",
        example="0.2 (any share between 0 and 1)",
        assign=lambda split, people, seed: assign_share(people.sites, float(split), seed, people.placed),
        numbers=lambda split, places: {0: 0},
    ),
    Way(
        form=r"(?i:.+\.csv)",
        example="FILE.csv (a list with the columns subject and fold, or subject alone)",
        assign=lambda split, people, seed: _assign_list(Path(split), people),
        numbers=lambda split, places: {number: number for number, _ in _held_out(places)},
    ),
)
FORMS = ", ".join(way.example for way in WAYS)


def is_split(text: str) -> bool:
    """Return whether a text selects one of `WAYS`."""
    return any(re.fullmatch(way.form, text) for way in WAYS)


def way_of(split: str) -> Way:
    """Return the way that a text selects.

    Raises:
        UserError: The text selects none of `WAYS`; the message lists all forms.
    """
    if not is_split(split):
        raise UserError(f"split is {split!r}; allowed are {FORMS}.")
    return next(way for way in WAYS if re.fullmatch(way.form, split))


def place(
    records: Sequence[Record], split: str, seed: int, listed: Mapping[str, Place], source: Path | None
) -> dict[str, Place]:
    """Return the places of all subjects: first the listed ones, unchanged, then the new ones.

    Args:
        records: Records of the cohort.
        split: Text that selects the way to split.
        seed: Seed of the split.
        listed: Places of subjects who have one already. For subjects in the cohort, the person in the record counts.
        source: File with the listed subjects, for messages.

    Raises:
        UserError: The split does not exist, the cohort is too small for it, or a person would be on two sides.
    """
    people = people_of(records, listed, source)
    folds = way_of(split).assign(split, people, seed)
    places = {subject: Place(person, people.sites[person], folds[person]) for subject, person in people.persons.items()}
    return places | dict(listed)


def people_of(records: Sequence[Record], listed: Mapping[str, Place], source: Path | None) -> People:
    """Return the persons of all subjects, listed or in the cohort; a person's first place or record gives the site.

    Raises:
        UserError: The list puts a person on two sides.
    """
    persons = {subject: place.person for subject, place in listed.items()}
    persons |= {record["subject"]: record["person"] for record in records}
    sites: dict[str, str] = {}
    for subject, known in listed.items():
        sites.setdefault(persons[subject], known.site)
    for record in records:
        sites.setdefault(record["person"], record["site"])
    return People(persons, sites, _by_person(persons, {subject: known.fold for subject, known in listed.items()}, source))


def _by_person(persons: Mapping[str, str], folds: Mapping[str, Fold], source: Path | None) -> dict[str, Fold]:
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
    return assign_folds(people.sites, folds, seed, people.placed)


def _assign_list(path: Path, people: People) -> dict[str, Fold]:
    # A written split already contains the folds of the list.
    return people.placed or _by_person(people.persons, read_list(path, people.persons), path)


def _count(split: str) -> int:
    return int(split.removesuffix("-fold"))


def _held_out(places: Iterable[Place]) -> list[tuple[int, str]]:
    return sorted({(place.fold, place.site) for place in places if place.fold is not None})
