"""Write the report as a folder: one self-contained HTML page, its figures as PNG and its numbers as CSV.

The page loads nothing and runs no script; its Content-Security-Policy enforces this. Its text is in `page.html`. Equal
input gives equal bytes.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from strokelesion.networks import UserError
from strokelesion.pipeline.evaluation.comparison import SCAN, select_with_truth
from strokelesion.pipeline.pictures import encode_png
from strokelesion.pipeline.report import figures
from strokelesion.pipeline.report.published import tabulate_published
from strokelesion.pipeline.runtime.files import remove_parts, write_bytes, write_table, write_text
from strokelesion.pipeline.runtime.pages import render_page

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Report:
    """Data of the report. An experiment is a (network, loss), and all tables are sorted.

    Attributes:
        scores: One row per scan and lesion class.
        lesions: One row per true lesion.
        history: One row per epoch of a run; may be empty.
        table: One row per experiment and lesion class, compared with the best.
        runs: One row per training and lesion class; an experiment may be trained with several seeds.
        summary: One row per experiment, lesion class and metric.
        false_alarms: One row per experiment and lesion class, over scans without that class.
        worst: Title and PNG of the worst scans of the shown experiment.
        settings: Settings of the runs.
        notes: Warnings at the top of the page.
        is_phantom: Whether the scans are synthetic.
        shown: Network and loss of the experiment shown in detail.
    """

    scores: pd.DataFrame
    lesions: pd.DataFrame
    history: pd.DataFrame
    table: pd.DataFrame
    runs: pd.DataFrame
    summary: pd.DataFrame
    false_alarms: pd.DataFrame
    worst: Sequence[tuple[str, bytes]]
    settings: Mapping[str, str]
    notes: Sequence[str]
    is_phantom: bool
    shown: tuple[str, str]


class Metric(NamedTuple):
    """A column of the scores, with its name on the page.

    Attributes:
        column: Name in `Report.scores`.
        label: Name and unit for readers; ↑ higher is better, ↓ lower is better, → 0 nearer to zero is better.
        decimals: Number of decimals to show.
    """

    column: str
    label: str
    decimals: int


METRICS = {
    "Plain, per scan": (
        Metric("dice", "Dice ↑", 3),
        Metric("precision", "precision ↑", 3),
        Metric("recall", "recall ↑", 3),
        Metric("hd95_mm", "95 % Hausdorff distance (mm) ↓", 1),
        Metric("asd_mm", "average surface distance (mm) ↓", 1),
        Metric("volume_difference_ml", "volume, predicted − true (ml) → 0", 1),
    ),
    "Keras study, mean over slices with any lesion; those without this class score 0": (
        Metric("keras_dice", "Dice ↑", 3),
        Metric("keras_dice_limit", "Dice of a perfect mask", 3),
    ),
    "ATLAS'22 challenge": (
        Metric("atlas22_dice", "Dice ↑", 3),
        Metric("atlas22_lesion_f1", "lesion F1, any overlap ↑", 3),
        Metric("atlas22_volume_difference_voxels", "volume difference (voxels) ↓", 0),
        Metric("atlas22_lesion_count_difference", "lesion count difference ↓", 1),
    ),
    "ISLES'26 challenge": (
        Metric("isles26_dice", "Dice ↑", 3),
        Metric("isles26_lesion_f1", "lesion F1, one-to-one, IoU ≥ .25 ↑", 3),
        Metric("isles26_absolute_volume_difference_ml", "absolute volume difference (ml) ↓", 1),
        Metric("isles26_lesion_count_difference", "lesion count difference ↓", 1),
        Metric("isles26_pr_auc", "area under precision-recall curve ↑", 3),
    ),
}


def write_page(report: Report, folder: Path) -> Path:
    """Write `index.html`, `figures/*.png` and the CSV files with their data.

    Args:
        report: Data of the report.
        folder: Folder of the report, created if it does not exist; files of an earlier report are replaced.

    Returns:
        The path of `index.html`.

    Raises:
        UserError: when the experiment to show has no scores.
    """
    if select_shown(report, report.scores).empty:
        known = sorted(set(zip(report.scores["network"], report.scores["loss"], strict=True)))
        raise UserError(f"got the experiment {' '.join(report.shown)} to show; allowed are {', '.join(map(' '.join, known))}.")
    pictures = draw_figures(report)
    for old in (folder / "figures").glob("*.png"):
        old.unlink()
    for directory in (folder, folder / "figures"):
        remove_parts(directory)
    for name, content in pictures.items():
        write_bytes(folder / "figures" / f"{name}.png", content)
    for number, (_, content) in enumerate(report.worst, start=1):
        write_bytes(folder / "figures" / f"worst_{number:02d}.png", content)
    for name, frame in list_tables(report).items():
        write_table(folder / f"{name}.csv", frame)
    return write_text(folder / "index.html", render(report, pictures))


def draw_figures(report: Report) -> dict[str, bytes]:
    """Return the figures as PNG, by name; figures without data are left out."""
    main = select_with_truth(select_shown(report, report.scores), "main")
    wanted: dict[str, tuple[Callable[[pd.DataFrame], Figure], pd.DataFrame]] = {
        "nine_cells": (figures.draw_nine_cells, report.table),
        "dice_by_volume": (figures.draw_dice_by_volume, main),
        "recall_by_size": (figures.draw_recall_by_size, select_shown(report, report.lesions)),
        "bland_altman": (figures.draw_bland_altman, main),
        "dice_by_site": (figures.draw_dice_by_site, main),
        "learning_curves": (figures.draw_learning_curves, report.history),
    }
    return {name: encode_png(function(frame)) for name, (function, frame) in wanted.items() if not frame.empty}


def list_tables(report: Report) -> dict[str, pd.DataFrame]:
    """Return the tables that are written as CSV, by name."""
    names = ("table", "runs", "summary", "false_alarms", "scores", "lesions", "history")
    return {name: getattr(report, name) for name in names} | {"published": tabulate_published()}


def render(report: Report, pictures: Mapping[str, bytes]) -> str:
    """Return the page as HTML."""
    scores = select_shown(report, report.scores)
    return render_page(
        Path(__file__).with_name("page.html"),
        {"number": format_number, "p_value": format_p, "data_uri": encode_data_uri},
        report=report,
        pictures=pictures,
        metrics=METRICS,
        scans=len(scores.drop_duplicates(SCAN)),
        persons=scores["person"].nunique(),
        sites=scores["site"].nunique(),
        cells={(row.network, row.loss, row.lesion): row for row in report.table.itertuples()},
        runs=pair_classes(report.runs),
        summary={(row.lesion, row.metric): row for row in select_shown(report, report.summary).itertuples()},
        alarms=list(select_shown(report, report.false_alarms).itertuples()),
        published=list(tabulate_published().itertuples()),
        here=average_for_comparison(scores),
        files=list(list_tables(report)),
        **rank_experiments(report.table),
    )


def average_for_comparison(scores: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Return the mean of each measure that published numbers compare with, by published lesion class and measure.

    Unlike the summary, the mean includes scans whose truth lacks the class, as each measure defines them: the Keras study and
    the challenges score these scans; Dice is NaN there.
    """
    measures = sorted(set(tabulate_published()["compare_with"]) - {""})
    means = scores.groupby("lesion")[measures].mean()
    classes = {"main": "main", "sub": "sub", "all": "both"}
    return {(name, measure): means.loc[lesion, measure] for name, lesion in classes.items() for measure in measures}


def pair_classes(runs: pd.DataFrame) -> list[tuple[Any, Any]]:
    """Return the rows of each training for main and for sub, the highest Dice of main lesions first."""
    main, sub = (runs[runs["lesion"] == lesion] for lesion in ("main", "sub"))
    of_sub = {(row.network, row.loss, row.seed): row for row in sub.itertuples()}
    ranked = main.sort_values("dice", ascending=False, kind="stable").itertuples()
    return [(row, of_sub[row.network, row.loss, row.seed]) for row in ranked]


def rank_experiments(table: pd.DataFrame) -> dict[str, Any]:
    """Return the order of the experiments by their Dice of main lesions, and their comparison with the best one.

    Returns:
        `networks` and `losses`, highest Dice first; `best`, a row; and lists of rows: `equals` do not differ significantly
        from the best, `lower` and `higher` do, and `untested` could not be tested.
    """
    main = table[table["lesion"] == "main"].sort_values("dice", ascending=False, kind="stable")
    others = main[~main["is_best"].astype(bool)]
    is_sure = others["p_holm"] < SIGNIFICANCE
    kinds = {
        "equals": others["p_holm"] >= SIGNIFICANCE,
        "lower": is_sure & (others["difference"] < 0),
        "higher": is_sure & (others["difference"] >= 0),
        "untested": others["p_holm"].isna(),
    }
    return {
        "networks": list(main["network"].unique()),
        "losses": list(main["loss"].unique()),
        "best": next(main[main["is_best"].astype(bool)].itertuples(), None),
        **{kind: list(others[rows].itertuples()) for kind, rows in kinds.items()},
    }


def select_shown(report: Report, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the experiment that is shown in detail."""
    network, loss = report.shown
    return frame[(frame["network"] == network) & (frame["loss"] == loss)]


def format_number(value: float, decimals: int = 3) -> str:
    """Return a number in the style of papers: .577, −0.1, and a dash for NaN.

    Numbers with three decimals are shares; they are written without the zero before the point.
    """
    if isnan(value):
        return "–"
    text = f"{value:.{decimals}f}".replace("-", "−")
    return text.replace("0.", ".", 1) if decimals == 3 and abs(value) < 1 and "1." not in text else text


def format_p(p: float) -> str:
    """Return a p-value as text."""
    if isnan(p):
        return "not tested"
    return "p < .001" if p < 0.001 else f"p = {format_number(p)}"


def encode_data_uri(png: bytes) -> str:
    """Return a PNG as a data URI, so that the page needs no image file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
