"""Common style of the report's figures: size, font, colors and shared marks.

The colors of Okabe and Ito (2008) are distinguishable for color-blind readers. The user's matplotlib settings are ignored,
so that equal data gives equal pictures.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

BLUE, ORANGE, GREEN, PINK, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
GRAY, INK = "#737A85", "#30343B"
NETWORK_COLORS = (BLUE, ORANGE, GREEN, PINK, SKY)
LOSS_LINES = ("solid", "dashed", "dotted", "dashdot")
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "axes.titlecolor": GRAY,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E8EB",
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
POINT: dict[str, Any] = {"s": 22, "color": BLUE, "alpha": 0.65, "linewidth": 0}
WIDTH_IN, DOTS_PER_INCH = 7.2, 160

# Decorator for functions that create or draw a figure.
styled = style.context(STYLE, after_reset=True)


def canvas(height_in: float) -> tuple[Figure, Axes]:
    """Return an empty figure of the report's width and its only axes."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    return figure, figure.subplots()


def level(axes: Axes, value: float, text: str, color: str = GRAY) -> None:
    """Draw a horizontal line with its name to the right of the axes, where the name covers no point."""
    axes.axhline(value, color=color, linewidth=1, linestyle="dashed")
    axes.annotate(text, (1.01, value), xycoords=("axes fraction", "data"), va="center", color=color, fontsize=8)


def dots(
    axes: Axes,
    places: NDArray[Any],
    bounds: Sequence[tuple[float, float, float]],
    color: str,
    label: str,
    along_x: bool = False,
) -> None:
    """Draw means with their intervals, each (mean, low, high); if low and high are NaN, draw the mean alone."""
    means, lows, highs = np.asarray(bounds, dtype=float).reshape(-1, 3).T
    if along_x:
        axes.hlines(places, lows, highs, color=color, linewidth=1.8)
        axes.plot(means, places, "o", color=color, markersize=5.5, label=label)
    else:
        axes.vlines(places, lows, highs, color=color, linewidth=1.8)
        axes.plot(places, means, "o", color=color, markersize=5.5, label=label)


def literal(name: object) -> str:
    """Return a name from the data with escaped dollar signs, so that matplotlib does not read it as mathematics."""
    return str(name).replace("$", r"\$")
