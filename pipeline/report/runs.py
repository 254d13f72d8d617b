"""Gather evaluated runs: scores, lesions, learning curves and worst scans as tables.

A run is a folder with `evaluation/held_out/`, a folder of scores as `scoring.py` writes it, and optionally `history.csv`.
Runs with the same network and loss are one experiment: its folds, and repetitions with other seeds. Their settings must be
the same, and no scan may be in two runs with one seed. Experiments are compared by the runs with their lowest seed; the others
show how much runs differ.
"""

import glob
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.records import NAMES
from strokelesion.pipeline.evaluation.comparison import EXPERIMENT, SCAN
from strokelesion.pipeline.evaluation.scoring import ABOUT, LESIONS, SCORES, WORST
from strokelesion.pipeline.options.option_types import words_of

EVALUATION = Path("evaluation", "held_out")
CURVES = ["epoch", "training_loss", "dice_main", "dice_sub", "dice_both"]
# The same data may lie elsewhere on another machine.
MAY_DIFFER = {"dataset_dir"}


@dataclass(frozen=True)
class Run:
    """One evaluated run.

    Attributes:
        folder: Folder of the run.
        experiment: Its `network`, `loss`, `fold` and `seed`.
        settings: All its other settings.
    """

    folder: Path
    experiment: dict[str, str]
    settings: dict[str, Any]

    def read_table(self, path: Path, **renamed: str) -> pd.DataFrame:
        """Return one of the run's tables, each row with network, loss, fold and seed."""
        # Names stay text: a subject may be "031768" and a site "NA".
        text = dict.fromkeys(NAMES, str)
        table = pd.read_csv(self.folder / path, dtype=text, keep_default_na=False, na_values=[""]).rename(columns=renamed)
        names = [name for name in NAMES if name in table]
        return table.assign(**table[names].fillna(""), **self.experiment)


@dataclass(frozen=True)
class Gathered:
    """Tables over all runs, each row with its `network`, `loss`, `fold` and `seed`; the order of the runs does not matter.

    `scores`, `lesions` and `worst` are of the lowest seed of each experiment, `repeated_scores` and `history` of all seeds.
    `to_hold_out` are the subjects that the splits of the runs assign to a fold.
    """

    scores: pd.DataFrame
    repeated_scores: pd.DataFrame
    lesions: pd.DataFrame
    history: pd.DataFrame
    worst: pd.DataFrame
    settings: dict[str, str]
    to_hold_out: set[str]


def find_runs(runs: str | Sequence[str]) -> list[Run]:
    """Return the evaluated runs that folders or globs name, sorted by path.

    Raises:
        UserError: when none is found.
    """
    patterns = [str(word) for word in words_of(runs)]
    named = [[pattern] if Path(pattern).is_dir() else glob.glob(pattern) for pattern in patterns]
    folders = sorted({Path(path) for paths in named for path in paths})
    found = [read_run(folder) for folder in folders if (folder / EVALUATION / SCORES).is_file()]
    if not found:
        raise UserError(
            f"found no evaluated run in {', '.join(patterns)}; expected folders with {EVALUATION / SCORES}. Run the command "
            "evaluating first, or check --runs; quote a glob so that the shell does not expand it."
        )
    return found


def read_run(folder: Path) -> Run:
    """Return a run, with network, loss, fold, seed and settings from its `about.json`."""
    about = json.loads((folder / EVALUATION / ABOUT).read_text())
    settings = dict(about["settings"])
    seed = str(settings.pop("seed", "-"))
    return Run(folder, {key: str(about[key]) for key in (*EXPERIMENT, "fold")} | {"seed": seed}, settings)


def gather(runs: Sequence[Run]) -> Gathered:
    """Return the tables of all runs, joined into one table of each kind.

    Raises:
        UserError: when folds of an experiment differ in a setting, two runs of it with one seed hold the same scan, or the
            truth of a scan differs between experiments.
    """
    require_same_settings(runs)
    repeated_scores = join_tables(runs, EVALUATION / SCORES, SCAN)
    require_each_scan_once(repeated_scores)
    require_same_truth(repeated_scores)
    curves = join_tables(runs, Path("history.csv"), ["seed", "fold", "epoch"], loss="training_loss")
    first = runs_with_lowest_seed(runs)
    return Gathered(
        scores=join_tables(first, EVALUATION / SCORES, SCAN).drop(columns="folder"),
        repeated_scores=repeated_scores.drop(columns="folder"),
        lesions=join_tables(first, EVALUATION / LESIONS, SCAN).drop(columns="folder"),
        history=curves.reindex(columns=[*EXPERIMENT, "fold", "seed", *CURVES]),
        worst=join_tables(first, EVALUATION / WORST, SCAN),
        settings=merge_settings(runs),
        to_hold_out=set().union(*map(read_subjects_in_folds, runs)),
    )


def runs_with_lowest_seed(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of each experiment that have its lowest seed."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        seeds.setdefault(name_of(run), []).append(run.experiment["seed"])
    lowest = {name: min(found, key=lambda seed: (len(seed), seed)) for name, found in seeds.items()}
    return [run for run in runs if run.experiment["seed"] == lowest[name_of(run)]]


def read_subjects_in_folds(run: Run) -> set[str]:
    """Return the subjects that the split of a run assigns to a fold; none if the run has no split."""
    path = run.folder / "split.csv"
    rows = pd.read_csv(path, dtype=str, keep_default_na=False) if path.is_file() else pd.DataFrame({"subject": [], "fold": []})
    return set(rows.loc[rows["fold"] != "", "subject"])


def join_tables(runs: Sequence[Run], path: Path, by: Sequence[str], **renamed: str) -> pd.DataFrame:
    """Return one table of all runs that have it, with the `folder` of each row's run; sorted by experiment and `by`."""
    tables = [run.read_table(path, **renamed).assign(folder=str(run.folder)) for run in runs if (run.folder / path).is_file()]
    filled = [table for table in tables if not table.empty]
    if not filled:
        return pd.DataFrame(columns=[*dict.fromkeys([*EXPERIMENT, "fold", "seed", *by]), "folder"])
    return pd.concat(filled).sort_values([*EXPERIMENT, *by], kind="stable", ignore_index=True)


def require_same_settings(runs: Sequence[Run]) -> None:
    """Raise UserError if two runs of an experiment have different settings, because they are not folds of one experiment."""
    first: dict[tuple[str, str], Run] = {}
    for run in runs:
        other = first.setdefault(name_of(run), run)
        for key in sorted((run.settings.keys() | other.settings.keys()) - MAY_DIFFER):
            if (came := run.settings.get(key)) != (was := other.settings.get(key)):
                raise UserError(
                    f"{run.folder} was made with {key} {came}, {other.folder} with {was}; expected the same for all folds of "
                    f"{', '.join(name_of(run))}. Gather them apart, or train one of them again."
                )


def require_each_scan_once(scores: pd.DataFrame) -> None:
    """Raise UserError if two runs of an experiment with one seed hold the same scan."""
    rows = scores[[*EXPERIMENT, "seed", *SCAN, "folder"]].drop_duplicates()
    if not (twice := rows[rows.duplicated([*EXPERIMENT, "seed", *SCAN], keep=False)]).empty:
        (network, loss, _, *scan, first), second = twice.iloc[0], twice["folder"].iloc[1]
        raise UserError(
            f"{first} and {second} both hold {' '.join(scan)} of {network}, {loss}; expected each scan once in an experiment. "
            "Name one of them with --runs."
        )


def require_same_truth(scores: pd.DataFrame) -> None:
    """Raise UserError if the true lesion volume of a scan differs between experiments."""
    volumes = scores.groupby([*SCAN, "lesion"])["truth_ml"].agg(["min", "max"])
    if not (differing := volumes[volumes["max"] > volumes["min"]]).empty:
        (*scan, lesion), (least, most) = differing.index[0], differing.iloc[0]
        raise UserError(
            f"the true {lesion} lesion of {' '.join(scan)} has {least:g} ml in one run and {most:g} in another; expected the "
            "same truth in all. Score them with the same data set and --sub_lesions."
        )


def name_of(run: Run) -> tuple[str, str]:
    """Return network and loss of a run."""
    return run.experiment["network"], run.experiment["loss"]


def merge_settings(runs: Sequence[Run]) -> dict[str, str]:
    """Return the settings of runs as text; if experiments differ in a setting, each value with the experiments that use it."""
    words: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        for key, value in run.settings.items():
            having = words.setdefault(key, {}).setdefault(str(value), [])
            having += [name for name in [" ".join(name_of(run))] if name not in having]
    return {key: format_values(values) for key, values in sorted(words.items())}


def format_values(values: Mapping[str, Sequence[str]]) -> str:
    """Return the only value, or each value with the experiments that use it."""
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({', '.join(having)})" for value, having in values.items())
