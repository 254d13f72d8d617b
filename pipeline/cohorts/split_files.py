"""Splits on disk: the file that a run writes, and the fixed lists that people write.

Both are CSV tables with a header. All names stay text: a subject may be "031768", a site "NA".
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from strokelesion.networks import UserError
from strokelesion.pipeline.runtime.files import written_whole

COLUMNS = ["subject", "person", "site", "fold", "split", "seed"]

# Number of the part in which a person is held out; None: never held out.
Fold = int | None


class Assignment(NamedTuple):
    """Assignment of a subject to a fold: the subject's person, the site of that person, and the fold."""

    person: str
    site: str
    fold: Fold


def write_split(path: Path, assigned: Mapping[str, Assignment], split: str, seed: int) -> None:
    """Write a split with one row per subject: the whole file or nothing."""
    rows = [
        (subject, person, site, "" if fold is None else fold, split, seed) for subject, (person, site, fold) in assigned.items()
    ]
    with written_whole(path) as beside:
        pd.DataFrame(rows, columns=COLUMNS).to_csv(beside, index=False)


def read_split(path: Path, split: str, seed: int) -> dict[str, Assignment]:
    """Return the split that a run wrote.

    Args:
        path: CSV file as `write_split` writes it; an empty fold means never held out.
        split: Value of `--split`. The file of a fixed list may be missing now, but it must not be changed.
        seed: Value of `--seed`.

    Returns:
        Assignment of each subject, in the order of the file.

    Raises:
        UserError: The file is not a split file, belongs to another split or seed, or lists a subject twice.
    """
    table = _read_table(path)
    if list(table.columns) != COLUMNS or table.empty:
        raise UserError(
            f"{path} is not a split file: it has {len(table)} rows and the columns {list(table.columns)}; expected rows "
            f"with {COLUMNS}. Restore the file as it was written, or name another folder for a new run: --run_dir."
        )
    _check_asked(path, table, split, seed)
    folds = _parse_folds(path, table)
    if is_list(split) and Path(split).exists():
        _check_unchanged(path, Path(split), folds)
    assignments = map(Assignment, table["person"], table["site"], folds.values())
    return dict(zip(folds, assignments, strict=True))


def is_list(split: str) -> bool:
    """Return whether a split is a fixed list, named by its path."""
    return split.lower().endswith(".csv")


def read_list(path: Path, subjects: Collection[str]) -> dict[str, Fold]:
    """Return the folds of a cohort from a fixed list.

    Args:
        path: CSV file with the columns subject and fold (a whole number, or empty: never held out), or only with subject:
            listed subjects are then held out as fold 0, the others never. Other columns are ignored.
        subjects: All subjects of the cohort.

    Returns:
        Fold of each of `subjects`, in their order.

    Raises:
        UserError: The file is missing or not such a list, holds out nobody, lists a subject twice or one who is not in the
            cohort, or gives folds only for a part of the cohort.
    """
    listed, is_whole_cohort = _read_listed(path)
    _refuse(path, "lists these, who are not in the cohort", listed.keys() - set(subjects), "Correct them or take them out")
    if is_whole_cohort:
        _refuse(path, "lacks these subjects of the cohort", set(subjects) - listed.keys(), "Add them; their fold may be empty")
    if set(listed.values()) <= {None}:
        raise UserError(f"{path} holds nobody out; expected at least one subject with a fold. Add one.")
    return {subject: listed.get(subject) for subject in subjects}


def _read_listed(path: Path) -> tuple[dict[str, Fold], bool]:
    """Return the folds of a fixed list, and whether it has a fold column and so must list the whole cohort."""
    table = _read_table(path)
    if "subject" not in table:
        raise UserError(
            f"{path} has no column subject: its first line is {','.join(table.columns)!r}. Expected a header there: "
            "subject,fold or, above a plain list of those to hold out, subject. Add it."
        )
    is_whole_cohort = "fold" in table
    return _parse_folds(path, table if is_whole_cohort else table.assign(fold="0")), is_whole_cohort


def _read_table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a CSV table: {error}. Expected a header and one row a subject.") from error


def _parse_folds(path: Path, table: pd.DataFrame) -> dict[str, Fold]:
    subjects = table["subject"]
    _refuse(path, "lists these subjects twice", subjects[subjects.duplicated()], "Leave each once")
    # Programs that cannot have empty cells in a column of whole numbers write 1 as 1.0.
    wrong = subjects[~table["fold"].str.fullmatch(r"([0-9]+(\.0)?)?")]
    _refuse(path, "gives these a fold that is no whole number", wrong, "Write 0, 1, 2 …, or nothing for never held out")
    folds = [int(float(fold)) if fold else None for fold in table["fold"]]
    return dict(zip(subjects, folds, strict=True))


def _check_asked(path: Path, table: pd.DataFrame, split: str, seed: int) -> None:
    for column, asked in (("split", split), ("seed", str(seed))):
        came = sorted(set(table[column]))
        if came != [asked]:
            raise UserError(
                f"{path} was written with {column}={', '.join(came)}, but {column}={asked} was asked for. Ask for what the "
                "file says, or name another folder for a new run: --run_dir."
            )


def _check_unchanged(path: Path, source: Path, written: Mapping[str, Fold]) -> None:
    listed, _ = _read_listed(source)
    if {subject: listed.get(subject) for subject in [*written, *listed]} != written:
        raise UserError(
            f"{source} has changed since {path} was written from it; expected the same subjects in the same folds. Restore "
            "the list, or name another folder for a new run: --run_dir."
        )


def _refuse(path: Path, what: str, subjects: Iterable[str], advice: str) -> None:
    if names := sorted(subjects):
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        raise UserError(f"{path} {what}: {', '.join(names[:10])}{more}. {advice}.")
