"""Draw the report's figures: one function per figure, from the tables of a report to a matplotlib Figure.

Every figure states its n and names its axes with units. No function uses pyplot, so no display is needed and no state
remains. `figure_style` defines how figures look.
"""

import io
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter, MaxNLocator, StrMethodFormatter

from strokelesion.pipeline.evaluation.comparison import bootstrap_interval, select_with_truth
from strokelesion.pipeline.report.figure_style import (
    BLUE,
    DOTS_PER_INCH,
    GRAY,
    INK,
    LOSS_LINES,
    NETWORK_COLORS,
    ORANGE,
    POINT,
    WIDTH_IN,
    canvas,
    dots,
    level,
    literal,
    styled,
)
from strokelesion.pipeline.report.published import INTER_RATER_DICE, INTRA_RATER_DICE

SIZE_EDGES_ML = (0, 0.1, 1, 10, 50, float("inf"))
SIZE_NAMES = ("< 0.1", "0.1 to 1", "1 to 10", "10 to 50", "≥ 50")
RECALLS = (
    ("is_touched", "touched by the prediction", BLUE, -0.12),
    ("is_matched", "matched one-to-one (IoU ≥ .25)", ORANGE, 0.12),
)
LESIONS = {"main": "main lesion", "sub": "sub-lesion", "both": "main and sub-lesion"}
# 95 % of normally distributed differences lie between the limits of agreement (Bland and Altman 1986).
LIMITS_SD = 1.96
# Symmetric-log axes are linear below this volume.
LINEAR_ML = 1.0


@styled
def png(figure: Figure) -> bytes:
    """Return a figure as PNG without date and software name, so that equal figures give equal bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return stream.getvalue()


@styled
def dice_by_volume(scores: pd.DataFrame, lesion: str = "main") -> Figure:
    """Draw Dice against the true volume in ml, one point per scan, with the Dice of human tracers as lines.

    Args:
        scores: Scores of one experiment, from the report.
        lesion: Lesion class; scans whose truth lacks it are left out.
    """
    shown = select_with_truth(scores, lesion)
    figure, axes = canvas(4.0)
    axes.scatter(shown["truth_ml"], shown["dice"], **POINT)
    for name, dice in (("between tracers", INTER_RATER_DICE), ("same tracer twice", INTRA_RATER_DICE)):
        level(axes, dice, f"{name} {dice:.3f}".replace("0.", "."))
    axes.set(xscale="log", xlabel=f"true volume of the {LESIONS[lesion]} (ml, log scale)", ylabel="Dice", ylim=(-0.03, 1.03))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    # An axis that spans less than a decade labels its minor ticks too.
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
    axes.set_title(counted(shown))
    return figure


@styled
def recall_by_size(lesions: pd.DataFrame) -> Figure:
    """Draw the share of true lesions that was found, by size, with 95 % bootstrap intervals over persons.

    A lesion on the edge of two bins belongs to the upper bin: 1 ml is in "1 to 10". An empty bin is labeled as such.

    Args:
        lesions: True lesions of one experiment, from the report.
    """
    bins = size_bins(lesions["volume_ml"])
    groups = [lesions[bins == name] for name in SIZE_NAMES]
    figure, axes = canvas(3.8)
    for column, label, color, offset in RECALLS:
        recalls = [bootstrap_interval(group[column], group["person"]) for group in groups]
        dots(axes, np.arange(len(groups)) + offset, recalls, color, label)
    for place, group in enumerate(groups):
        if group.empty:
            axes.text(place, 0.5, "no lesions", ha="center", color=GRAY)
    axes.set_xticks(range(len(groups)), [f"{name}\nn = {len(group)}" for name, group in zip(SIZE_NAMES, groups, strict=True)])
    axes.set(xlabel="volume of the true lesion (ml)", ylabel="share of the true lesions", ylim=(-0.03, 1.03), xlim=(-0.5, 4.5))
    axes.grid(visible=False, axis="x")
    axes.set_title(f"n = {len(lesions)} lesions of {lesions['person'].nunique()} persons")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@styled
def bland_altman(scores: pd.DataFrame, lesion: str = "main") -> Figure:
    """Draw the volume error against the volume, with mean difference and 95 % limits of agreement.

    The limits are mean ± 1.96 SD of prediction minus truth (Bland and Altman 1986). Both axes are linear below 1 ml and
    logarithmic above.

    Args:
        scores: Scores of one experiment, from the report.
        lesion: Lesion class; scans whose truth lacks it are left out.
    """
    shown = select_with_truth(scores, lesion)
    difference_ml = shown["volume_difference_ml"]
    bias_ml, spread_ml = difference_ml.mean(), LIMITS_SD * difference_ml.std()
    figure, axes = canvas(4.0)
    axes.set_xscale("symlog", linthresh=LINEAR_ML)
    axes.set_yscale("symlog", linthresh=LINEAR_ML)
    axes.scatter((shown["truth_ml"] + shown["pred_ml"]) / 2, difference_ml, **POINT)
    if not np.isnan(bias_ml):
        level(axes, bias_ml, f"mean {signed(bias_ml)} ml", INK)
    if not np.isnan(spread_ml):
        level(axes, bias_ml + spread_ml, f"+1.96 SD {signed(bias_ml + spread_ml)} ml")
        level(axes, bias_ml - spread_ml, f"−1.96 SD {signed(bias_ml - spread_ml)} ml")
    axes.set(xlabel="mean of true and predicted volume (ml)", ylabel="predicted − true volume (ml)", xlim=(0, None))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_title(f"{counted(shown)}; {LESIONS[lesion]}")
    return figure


@styled
def dice_by_site(scores: pd.DataFrame, lesion: str = "main") -> Figure:
    """Draw the Dice of each scan by site with each site's mean, the worst site on top.

    Args:
        scores: Scores of one experiment, from the report.
        lesion: Lesion class; scans whose truth lacks it are left out.
    """
    shown = select_with_truth(scores, lesion)
    means = shown.groupby("site")["dice"].mean().sort_values(kind="stable")
    sizes = shown["site"].value_counts()
    places = {site: place for place, site in enumerate(means.index)}
    figure, axes = canvas(1.4 + 0.22 * len(means))
    axes.scatter(shown["dice"], shown["site"].map(places), s=16, color=GRAY, alpha=0.55, linewidth=0, label="scan")
    axes.scatter(means, range(len(means)), s=34, color=BLUE, marker="D", linewidth=0, label="mean of the site", zorder=3)
    axes.axvline(shown["dice"].mean(), color=BLUE, linewidth=1, linestyle="dashed", label="mean of all scans")
    axes.set_yticks(range(len(means)), [f"{literal(site)} (n = {sizes[site]})" for site in means.index])
    axes.set(
        xlabel=f"Dice of the {LESIONS[lesion]}", ylabel="site, worst first", xlim=(-0.03, 1.03), ylim=(len(means) - 0.4, -0.6)
    )
    axes.set_title(counted(shown))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@styled
def learning_curves(history: pd.DataFrame) -> Figure:
    """Draw training loss and validation Dice over the epochs: one color per network, one line style per loss.

    Strong lines are means over folds; faint lines are single folds.

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
            for _, fold in run.groupby("fold", sort=False):
                axes.plot(fold["epoch"], fold[column], linewidth=0.7, alpha=0.22, **look)
            mean = run.groupby("epoch")[column].mean()
            axes.plot(mean.index, mean, linewidth=1.7, label=f"{network} {loss}", **look)
        axes.set_ylabel(name)
    lower.set_xlabel("epoch")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    upper.set_title(f"n = {len(history.drop_duplicates(['network', 'loss', 'fold']))} runs (experiments × folds)")
    keys = [Line2D([], [], color=color, linewidth=3, label=literal(network)) for network, color in colors.items()]
    keys += [Line2D([], [], color=INK, linestyle=line, label=literal(loss)) for loss, line in lines.items()]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys) if len(keys) < 7 else 4)
    return figure


@styled
def nine_cells(table: pd.DataFrame) -> Figure:
    """Draw mean Dice and 95 % interval of every experiment, main and sub side by side, the highest for main on top.

    Args:
        table: Comparison of the experiments, from the report.
    """
    ranked = table[table["lesion"] == "main"].sort_values("dice", ascending=False, kind="stable")
    names = list(zip(ranked["network"], ranked["loss"], strict=True))
    figure = Figure(figsize=(WIDTH_IN, 1.3 + 0.27 * len(names)), layout="constrained")
    for axes, lesion, color in zip(figure.subplots(1, 2, sharey=True), ("main", "sub"), (BLUE, ORANGE), strict=True):
        rows = table[table["lesion"] == lesion].set_index(["network", "loss"]).reindex(names)
        bounds = list(zip(rows["dice"], rows["low"], rows["high"], strict=True))
        dots(axes, np.arange(len(names)), bounds, color, lesion, along_x=True)
        axes.set(xlabel=f"Dice of the {LESIONS[lesion]}", xlim=(-0.03, 1.03))
        axes.set_title(f"n = {span(rows['scans'])} scans with a {LESIONS[lesion]}")
        axes.grid(visible=False, axis="y")
    axes.set_yticks(range(len(names)), [literal(f"{network}  {loss}") for network, loss in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    figure.axes[0].set_ylabel("network and loss, highest first")
    return figure


def size_bins(volumes_ml: pd.Series) -> pd.Series:
    """Return the name of each lesion's size bin; a volume on an edge is in the upper bin."""
    return pd.cut(volumes_ml, SIZE_EDGES_ML, right=False, labels=SIZE_NAMES)


def counted(scores: pd.DataFrame) -> str:
    """Return the text that states the numbers of scans and persons."""
    return f"n = {len(scores)} scans of {scores['person'].nunique()} persons"


def span(counts: pd.Series) -> str:
    """Return the count that all rows share, or the lowest and highest count."""
    known = counts.dropna().astype(int)
    return "0" if known.empty else f"{known.min()}" if known.min() == known.max() else f"{known.min()} to {known.max()}"


def signed(volume_ml: float) -> str:
    """Return a volume with its sign, to a tenth of a milliliter."""
    return f"{volume_ml:+.1f}".replace("-", "−")
