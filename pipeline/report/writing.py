"""Write the report on evaluated runs: tables, figures and one page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.records import is_phantom_subject
from strokelesion.pipeline.evaluation.comparison import (
    RANKED_BY,
    SCAN,
    compare,
    count_false_alarms,
    find_best_experiment,
    summarize,
    tabulate_runs,
)
from strokelesion.pipeline.report.page import Report, write_page
from strokelesion.pipeline.report.runs import EVALUATION, Gathered, find_runs, gather

WORST_SHOWN = 10


def write_report(
    runs: str | Sequence[str] | None, folder: str | Path, shown: str = "best", runs_dir: str | Path = "runs"
) -> None:
    """Gather runs into a report and print the table of experiments.

    Args:
        runs: Folders of evaluated runs, or globs; None takes all in `runs_dir`.
        folder: Folder for index.html, the tables and the figures.
        shown: Experiment that the figures show, as "network loss"; `best` is the one with the highest Dice.
        runs_dir: Folder of the runs.
    """
    gathered = gather(find_runs(runs or f"{runs_dir}/*"))
    table = compare(gathered.scores)
    experiment = find_experiment(gathered.scores, shown)
    report = Report(
        scores=gathered.scores,
        lesions=gathered.lesions,
        history=gathered.history,
        table=table,
        runs=tabulate_runs(gathered.repeated_scores),
        summary=summarize(gathered.scores),
        false_alarms=count_false_alarms(gathered.scores),
        worst=read_worst_pictures(gathered.worst, experiment),
        settings=gathered.settings,
        notes=[*warn_of_missing_scans(gathered.scores), *warn_of_missing_subjects(gathered)],
        shown=experiment,
        is_phantom=bool(gathered.scores["subject"].map(is_phantom_subject).all()),
    )
    page = write_page(report, Path(folder))
    print(format_table(table))
    print(f"The report is in {page}")


def find_experiment(scores: pd.DataFrame, shown: str) -> tuple[str, str]:
    """Return network and loss of the experiment to show.

    Raises:
        UserError: when there is no such experiment; the message lists the existing ones.
    """
    if shown == "best":
        return find_best_experiment(scores)
    names = {
        f"{network} {loss}": (str(network), str(loss))
        for network, loss in scores[["network", "loss"]].drop_duplicates().to_numpy()
    }
    if shown not in names:
        raise UserError(f"--shown got {shown!r}; allowed are best, {', '.join(sorted(names))}.")
    return names[shown]


def read_worst_pictures(worst: pd.DataFrame, experiment: tuple[str, str]) -> list[tuple[str, bytes]]:
    """Return title and PNG of the worst scans of an experiment, from the ten worst scans that each fold stored."""
    network, loss = experiment
    rows = worst[(worst["network"] == network) & (worst["loss"] == loss)]
    rows = rows.sort_values(["dice", "truth_ml", *SCAN], ascending=[True, False, True, True, True])[:WORST_SHOWN]
    return [(format_title(row), Path(str(row.folder), EVALUATION, str(row.picture)).read_bytes()) for row in rows.itertuples()]


def format_title(row: Any) -> str:
    """Return the title above the picture of a scan."""
    volumes = f"truth {row.truth_ml:.1f} ml, predicted {row.pred_ml:.1f} ml"
    return f"{row.site} {row.subject} {row.session}: Dice {row.dice:.3f}, {volumes}"


def warn_of_missing_scans(scores: pd.DataFrame) -> list[str]:
    """Return a warning for each experiment that lacks scans of another experiment."""
    scans = {name: set(map(tuple, rows[SCAN].to_numpy())) for name, rows in scores.groupby(["network", "loss"])}
    of_all = set.union(*scans.values())
    return [
        f"{' '.join(map(str, name))} holds {len(held)} of the {len(of_all)} scans: folds are missing, and its mean does not "
        "compare with the others. Differences and tests are over the scans that both have."
        for name, held in scans.items()
        if len(held) < len(of_all)
    ]


def warn_of_missing_subjects(gathered: Gathered) -> list[str]:
    """Return a warning if no run held out some subjects of the splits."""
    missing = gathered.to_hold_out - set(gathered.scores["subject"])
    if not missing:
        return []
    counts = f"{len(missing)} of the {len(gathered.to_hold_out)} subjects of the split"
    return [f"{counts} were held out in none of these runs: the scores are those of a part of the data set."]


def format_table(table: pd.DataFrame) -> str:
    """Return the table of experiments as text, for main and for sub: networks in rows, losses in columns."""
    parts = []
    for lesion in ("main", "sub"):
        if not (rows := table[table["lesion"] == lesion]).empty:
            cells = rows.assign(cell=[format_cell(row) for row in rows.itertuples()])
            grid = cells.pivot_table(index="network", columns="loss", values="cell", aggfunc="first", fill_value="-")
            parts.append(f"Dice {lesion}\n{grid.rename_axis(index=None, columns=None).to_string()}")
    return "\n\n".join([*parts, "p: against the best, corrected for the number of comparisons (Holm)"])


def format_cell(row: Any) -> str:
    """Return mean, interval and test of one experiment as text."""
    sureness = ("best" if row.lesion == RANKED_BY else "reference") if row.is_best else f"p {row.p_holm:.3f}"
    return f"{row.dice:.3f} [{row.low:.3f}, {row.high:.3f}] {sureness}"
