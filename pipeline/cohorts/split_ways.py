"""Where everybody stands in a split: persons are placed in one of four ways, and subjects follow their person.

`WAYS` is the table of contents: one row a way to split, with the form in which it is asked for. Everything below the table is
one code path for all of them.
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
    """The person of each subject; of each person the site and, if already placed, the fold."""

    persons: dict[str, str]
    sites: dict[str, str]
    placed: dict[str, Fold]


@dataclass(frozen=True)
class Way:
    """A way to split.

    Attributes:
        form: Regular expression of the texts that ask for it.
        example: Such a text, and what else is allowed.
        assign: From that text, the people and the seed to the fold of each person.
        numbers: From that text and all places to the number of each part by what `--fold` calls it, in order.
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
    """Return whether a text asks for one of `WAYS`."""
    return any(re.fullmatch(way.form, text) for way in WAYS)


def way_of(split: str) -> Way:
    """Return the way that a text asks for.

    Raises:
        UserError: It asks for none of `WAYS`; the message has all forms.
    """
    if not is_split(split):
        raise UserError(f"split is {split!r}; allowed are {FORMS}.")
    return next(way for way in WAYS if re.fullmatch(way.form, split))


def place(
    records: Sequence[Record], split: str, seed: int, listed: Mapping[str, Place], source: Path | None
) -> dict[str, Place]:
    """Place all subjects: first those listed, as they were, then the new ones.

    Args:
        records: The cohort.
        split: How to divide the persons.
        seed: Seed of the division.
        listed: Subjects who are placed already, with their persons. The cohort knows better who is who, if it has them.
        source: The file that lists them, for messages.

    Raises:
        UserError: There is no such split, the cohort is too small for it, or a person would be on two sides.
    """
    people = people_of(records, listed, source)
    folds = way_of(split).assign(split, people, seed)
    places = {subject: Place(person, people.sites[person], folds[person]) for subject, person in people.persons.items()}
    return places | dict(listed)


def people_of(records: Sequence[Record], listed: Mapping[str, Place], source: Path | None) -> People:
    """Return who is who among those listed and in the cohort; a person's site is that of their first place or record.

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
    """From folds of subjects to folds of persons, who have one each."""
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
    # Once written, the split has what the list said.
    return people.placed or _by_person(people.persons, read_list(path, people.persons), path)


def _count(split: str) -> int:
    return int(split.removesuffix("-fold"))


def _held_out(places: Iterable[Place]) -> list[tuple[int, str]]:
    return sorted({(place.fold, place.site) for place in places if place.fold is not None})
