"""Draw the report's figures: one function per figure, from the tables of a report to a matplotlib Figure.

Every figure states its n and names its axes with units. No function uses pyplot, so no display is needed and no state
remains. The user's matplotlib settings are ignored, so that equal data gives equal pictures. The colors of Okabe and Ito
(2008) are distinguishable for color-blind readers.
"""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter, MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from strokelesion.pipeline.evaluation.comparison import bootstrap_interval, select_with_truth
from strokelesion.pipeline.lesions.lesion_sizes import SIZE_NAMES, bin_sizes
from strokelesion.pipeline.pictures import (
    BLUE,
    GRAY,
    GREEN,
    INK,
    ORANGE,
    PINK,
    POINT,
    SKY,
    WIDTH_IN,
    draw_agreement,
    draw_level,
    make_canvas,
    styled,
)
from strokelesion.pipeline.report.published import INTER_RATER_DICE, INTRA_RATER_DICE

NETWORK_COLORS = (BLUE, ORANGE, GREEN, PINK, SKY)
LOSS_LINES = ("solid", "dashed", "dotted", "dashdot")
RECALLS = (
    ("is_touched", "touched by the prediction", BLUE, -0.12),
    ("is_matched", "matched one-to-one (IoU ≥ .25)", ORANGE, 0.12),
)
LESIONS = {"main": "main lesion", "sub": "sub-lesion", "both": "main and sub-lesion"}


@styled
def draw_dice_by_volume(scores: pd.DataFrame) -> Figure:
    """Draw Dice against the true volume in ml, one point per scan, with the Dice of human tracers as lines.

    Args:
        scores: Scores of one experiment, from the report; scans without a main lesion are left out.
    """
    shown = select_with_truth(scores, "main")
    figure, axes = make_canvas(4.0)
    axes.scatter(shown["truth_ml"], shown["dice"], **POINT)
    for name, dice in (("between tracers", INTER_RATER_DICE), ("same tracer twice", INTRA_RATER_DICE)):
        draw_level(axes, dice, f"{name} {dice:.3f}".replace("0.", "."))
    axes.set(xscale="log", xlabel="true volume of the main lesion (ml, log scale)", ylabel="Dice", ylim=(-0.03, 1.03))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    # An axis that spans less than a decade labels its minor ticks too.
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
    axes.set_title(state_counts(shown))
    return figure


@styled
def draw_recall_by_size(lesions: pd.DataFrame) -> Figure:
    """Draw the share of true lesions that was found, by size, with 95 % bootstrap intervals over persons.

    A lesion on the edge of two bins belongs to the upper bin: 1 ml is in "1 to 10". An empty bin is labeled as such.

    Args:
        lesions: True lesions of one experiment, from the report.
    """
    bins = bin_sizes(lesions["volume_ml"])
    groups = [lesions[bins == name] for name in SIZE_NAMES]
    figure, axes = make_canvas(3.8)
    for column, label, color, offset in RECALLS:
        recalls = [bootstrap_interval(group[column], group["person"]) for group in groups]
        draw_dots(axes, np.arange(len(groups)) + offset, recalls, color, label)
    for position, group in enumerate(groups):
        if group.empty:
            axes.text(position, 0.5, "no lesions", ha="center", color=GRAY)
    axes.set_xticks(range(len(groups)), [f"{name}\nn = {len(group)}" for name, group in zip(SIZE_NAMES, groups, strict=True)])
    axes.set(xlabel="volume of the true lesion (ml)", ylabel="share of the true lesions", ylim=(-0.03, 1.03), xlim=(-0.5, 4.5))
    axes.grid(visible=False, axis="x")
    axes.set_title(f"n = {len(lesions)} lesions of {lesions['person'].nunique()} persons")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@styled
def draw_bland_altman(scores: pd.DataFrame) -> Figure:
    """Draw the volume error against the volume, see `draw_agreement`.

    Args:
        scores: Scores of one experiment, from the report; scans without a main lesion are left out.
    """
    shown = select_with_truth(scores, "main")
    title = f"{state_counts(shown)}; main lesion"
    return draw_agreement(shown["truth_ml"], shown["pred_ml"], ("true", "predicted"), title)


@styled
def draw_dice_by_site(scores: pd.DataFrame) -> Figure:
    """Draw the Dice of each scan by site with each site's mean, the worst site on top.

    Args:
        scores: Scores of one experiment, from the report; scans without a main lesion are left out.
    """
    shown = select_with_truth(scores, "main")
    means = shown.groupby("site")["dice"].mean().sort_values(kind="stable")
    sizes = shown["site"].value_counts()
    positions = {site: position for position, site in enumerate(means.index)}
    figure, axes = make_canvas(1.4 + 0.22 * len(means))
    axes.scatter(shown["dice"], shown["site"].map(positions), s=16, color=GRAY, alpha=0.55, linewidth=0, label="scan")
    axes.scatter(means, range(len(means)), s=34, color=BLUE, marker="D", linewidth=0, label="mean of the site", zorder=3)
    axes.axvline(shown["dice"].mean(), color=BLUE, linewidth=1, linestyle="dashed", label="mean of all scans")
    axes.set_yticks(range(len(means)), [f"{escape_dollars(site)} (n = {sizes[site]})" for site in means.index])
    axes.set(xlabel="Dice of the main lesion", ylabel="site, worst first", xlim=(-0.03, 1.03), ylim=(len(means) - 0.4, -0.6))
    axes.set_title(state_counts(shown))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@styled
def draw_learning_curves(history: pd.DataFrame) -> Figure:
    """Draw training loss and validation Dice over the epochs: one color per network, one line style per loss.

    Strong lines are means over folds and seeds; faint lines are single runs.

    Args:
        history: History of all experiments, from the report.
    """
    colors = dict(zip(history["network"].unique(), cycle(NETWORK_COLORS), strict=False))
    lines = dict(zip(history["loss"].unique(), cycle(LOSS_LINES), strict=False))
    figure = Figure(figsize=(WIDTH_IN, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, column, name in ((upper, "training_loss", "training loss"), (lower, "dice_main", "validation Dice, main")):
        known = history.dropna(subset=column)
        for (network, loss), run in known.groupby(["network", "loss"], sort=False):
            look = {"color": colors[network], "linestyle": lines[loss]}
            for _, single in run.groupby(["fold", "seed"], sort=False):
                axes.plot(single["epoch"], single[column], linewidth=0.7, alpha=0.22, **look)
            mean = run.groupby("epoch")[column].mean()
            axes.plot(mean.index, mean, linewidth=1.7, label=f"{network} {loss}", **look)
        axes.set_ylabel(name)
    lower.set_xlabel("epoch")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    upper.set_title(f"n = {len(history.drop_duplicates(['network', 'loss', 'fold', 'seed']))} trainings")
    keys = [Line2D([], [], color=color, linewidth=3, label=escape_dollars(network)) for network, color in colors.items()]
    keys += [Line2D([], [], color=INK, linestyle=line, label=escape_dollars(loss)) for loss, line in lines.items()]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys) if len(keys) < 7 else 4)
    return figure


@styled
def draw_nine_cells(table: pd.DataFrame) -> Figure:
    """Draw mean Dice and 95 % interval of every experiment, main and sub side by side, the highest for main on top.

    Args:
        table: Comparison of the experiments, from the report.
    """
    ranked = table[table["lesion"] == "main"].sort_values("dice", ascending=False, kind="stable")
    names = list(zip(ranked["network"], ranked["loss"], strict=True))
    figure = Figure(figsize=(WIDTH_IN, max(2.8, 1.3 + 0.27 * len(names))), layout="constrained")
    for axes, lesion, color in zip(figure.subplots(1, 2, sharey=True), ("main", "sub"), (BLUE, ORANGE), strict=True):
        rows = table[table["lesion"] == lesion].set_index(["network", "loss"]).reindex(names)
        bounds = list(zip(rows["dice"], rows["low"], rows["high"], strict=True))
        draw_dots(axes, np.arange(len(names)), bounds, color, lesion, along_x=True)
        axes.set(xlabel=f"Dice of the {LESIONS[lesion]}", xlim=(-0.03, 1.03))
        axes.set_title(f"n = {format_range(rows['scans'])} scans with a {LESIONS[lesion]}")
        axes.grid(visible=False, axis="y")
    axes.set_yticks(range(len(names)), [escape_dollars(f"{network}  {loss}") for network, loss in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    figure.axes[0].set_ylabel("network and loss, highest first")
    return figure


def state_counts(scores: pd.DataFrame) -> str:
    """Return the text that states the numbers of scans and persons."""
    return f"n = {len(scores)} scans of {scores['person'].nunique()} persons"


def format_range(counts: pd.Series) -> str:
    """Return the count that all rows share, or the lowest and highest count."""
    known = counts.dropna().astype(int)
    return "0" if known.empty else f"{known.min()}" if known.min() == known.max() else f"{known.min()} to {known.max()}"


def draw_dots(
    axes: Axes,
    positions: NDArray[Any],
    bounds: Sequence[tuple[float, float, float]],
    color: str,
    label: str,
    along_x: bool = False,
) -> None:
    """Draw means with their intervals, each (mean, low, high); if low and high are NaN, draw the mean alone."""
    means, lows, highs = np.asarray(bounds, dtype=float).reshape(-1, 3).T
    if along_x:
        axes.hlines(positions, lows, highs, color=color, linewidth=1.8)
        axes.plot(means, positions, "o", color=color, markersize=5.5, label=label)
    else:
        axes.vlines(positions, lows, highs, color=color, linewidth=1.8)
        axes.plot(positions, means, "o", color=color, markersize=5.5, label=label)


def escape_dollars(name: object) -> str:
    """Return a name from the data with escaped dollar signs, so that matplotlib does not read it as mathematics."""
    return str(name).replace("$", r"\$")
