"""Draw pictures of one scan, and charts of the volumes of many.

A picture is an axial T1 slice with outlined lesions, anterior up, the patient's left on the left. Charts ignore the user's
matplotlib settings, so that equal data gives equal pictures. The colors of Okabe and Ito (2008) are distinguishable for
color-blind readers.
"""

import io
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

# Outline colors of a panel: main lesion red, sub-lesion cyan.
COLORS = {1: (255, 60, 40), 2: (0, 230, 230)}
BRIGHTEST_SHOWN = 2.0
MARK_COLOR = (255, 255, 255)
BLUE, ORANGE, GREEN, PINK, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
GRAY, INK = "#737A85", "#30343B"
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
# 95 % of normally distributed differences lie between the limits of agreement (Bland and Altman 1986).
LIMITS_SD = 1.96
# Symmetric-log axes are linear below this volume.
LINEAR_ML = 1.0

# Decorator for functions that create or draw a figure.
styled = style.context(STYLE, after_reset=True)


def lesion_panel(image: NDArray[np.float32], label: NDArray[np.float32], pred: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return T1, T1 with truth and T1 with prediction side by side, `(H, W, 3)` bytes.

    The slice is the axial slice with the largest true lesion area. Anterior is up; the patient's left is on the left.

    Args:
        image: Scaled T1 `(X, Y, Z)` in RAS, median tissue 1.
        label: True labels `(X, Y, Z)`.
        pred: Predicted labels `(X, Y, Z)`.
    """
    level = int((label > 0).sum((0, 1)).argmax())
    t1, truth, prediction = (np.flipud(volume[..., level].T) for volume in (image, label, pred))
    gray = np.repeat((t1.clip(0, BRIGHTEST_SHOWN) * (255 / BRIGHTEST_SHOWN)).astype(np.uint8)[..., None], 3, axis=2)
    return np.concatenate([gray, outline(gray, truth), outline(gray, prediction)], axis=1)


def outline(picture: NDArray[np.uint8], labels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the picture `(H, W, 3)` with the inner border of each lesion class drawn."""
    drawn = picture.copy()
    for value, color in COLORS.items():
        mask = labels == value
        drawn[mask & ~ndimage.binary_erosion(mask)] = color
    return drawn


def marked_png(panel: NDArray[np.uint8], pixel_mm: tuple[float, float]) -> bytes:
    """Return a panel as PNG with an L at the patient's left; square pixels have the smaller of the two pixel edges.

    Args:
        panel: Picture `(H, W, 3)`.
        pixel_mm: Width and height of a pixel.
    """
    height, width = panel.shape[:2]
    finest_mm = min(pixel_mm)
    size = round(width * pixel_mm[0] / finest_mm), round(height * pixel_mm[1] / finest_mm)
    picture = with_mark(Image.fromarray(panel).resize(size, Image.Resampling.BICUBIC))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def with_mark(picture: Image.Image, knows_left: bool = True) -> Image.Image:
    """Return a picture with an L on its left side, which is the patient's left, or with `L?` where that was guessed."""
    ImageDraw.Draw(picture).text((3, picture.height // 2), "L" if knows_left else "L?", fill=MARK_COLOR)
    return picture


@styled
def encode_png(figure: Figure) -> bytes:
    """Return a figure as PNG without date and software name, so that equal figures give equal bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return stream.getvalue()


@styled
def draw_agreement(before_ml: Any, after_ml: Any, names: tuple[str, str], title: str) -> Figure:
    """Draw the difference of two volumes of each scan against their mean, with mean difference and 95 % limits of agreement.

    The limits are mean ± 1.96 SD of second minus first (Bland and Altman 1986). Both axes are linear below 1 ml and
    logarithmic above.

    Args:
        before_ml: First volume of each scan `(N,)`, in ml.
        after_ml: Second volume `(N,)`.
        names: Words for the two volumes.
        title: Title of the chart, with the number of scans.
    """
    before, after = (np.asarray(volumes, dtype=float) for volumes in (before_ml, after_ml))
    difference_ml = after - before
    bias_ml = difference_ml.mean() if difference_ml.size else np.nan
    spread_ml = LIMITS_SD * difference_ml.std(ddof=1) if difference_ml.size > 1 else np.nan
    figure, axes = make_canvas(4.0)
    axes.set_xscale("symlog", linthresh=LINEAR_ML)
    axes.set_yscale("symlog", linthresh=LINEAR_ML)
    axes.scatter((before + after) / 2, difference_ml, **POINT)
    if not np.isnan(bias_ml):
        draw_level(axes, bias_ml, f"mean {format_signed(bias_ml)} ml", INK)
    if not np.isnan(spread_ml):
        draw_level(axes, bias_ml + spread_ml, f"+1.96 SD {format_signed(bias_ml + spread_ml)} ml")
        draw_level(axes, bias_ml - spread_ml, f"−1.96 SD {format_signed(bias_ml - spread_ml)} ml")
    axes.set(xlabel=f"mean of {names[0]} and {names[1]} volume (ml)", ylabel=f"{names[1]} − {names[0]} volume (ml)")
    axes.set_xlim(0, None)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:.4g}"))
    axes.set_title(title)
    return figure


def make_canvas(height_in: float) -> tuple[Figure, Axes]:
    """Return an empty figure of the report's width and its only axes."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    return figure, figure.subplots()


def draw_level(axes: Axes, value: float, text: str, color: str = GRAY) -> None:
    """Draw a horizontal line with its name to the right of the axes, where the name covers no point."""
    axes.axhline(value, color=color, linewidth=1, linestyle="dashed")
    axes.annotate(text, (1.01, value), xycoords=("axes fraction", "data"), va="center", color=color, fontsize=8)


def format_signed(volume_ml: float) -> str:
    """Return a volume with its sign, to a tenth of a milliliter."""
    return f"{volume_ml:+.1f}".replace("-", "−")
