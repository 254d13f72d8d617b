"""What the figures draw is what the frames hold; every axis is named, every n stated, no text covers another."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from report_frames import FOLDS, experiments, of, report

from strokelesion.pipeline.evaluation.comparison import bootstrap_interval
from strokelesion.pipeline.lesions.lesion_sizes import bin_sizes
from strokelesion.pipeline.pictures import encode_png, styled
from strokelesion.pipeline.report import figures

STUDY = report()
SHOWN = of(STUDY.scores)
DRAWN = {
    "dice_by_volume": (figures.draw_dice_by_volume, SHOWN),
    "recall_by_size": (figures.draw_recall_by_size, of(STUDY.lesions)),
    "bland_altman": (figures.draw_bland_altman, SHOWN),
    "dice_by_site": (figures.draw_dice_by_site, SHOWN),
    "learning_curves": (figures.draw_learning_curves, STUDY.history),
    "nine_cells": (figures.draw_nine_cells, STUDY.table),
}


def draw(name):
    function, frame = DRAWN[name]
    return function(frame)


def points(axes):
    """Where the first scatter's points are, sorted."""
    return sorted(map(tuple, np.asarray(axes.collections[0].get_offsets())))


def tick_texts(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def scan(**values):
    """One row of scores."""
    row = {"lesion": "main", "person": "p", "site": "R001", "truth_ml": 10.0, "pred_ml": 10.0, "dice": 0.5}
    return row | {"volume_difference_ml": 0.0} | values


def lesion(volume_ml, is_touched=True, is_matched=True, person="p"):
    return {"volume_ml": volume_ml, "is_touched": is_touched, "is_matched": is_matched, "person": person}


@pytest.mark.parametrize(
    ("name", "n", "labels"),
    [
        ("dice_by_volume", "60 scans of 52 persons", [("true volume of the main lesion (ml, log scale)", "Dice")]),
        (
            "recall_by_size",
            f"{len(of(STUDY.lesions))} lesions of 52 persons",
            [("volume of the true lesion (ml)", "share of the true lesions")],
        ),
        (
            "bland_altman",
            "60 scans of 52 persons; main lesion",
            [("mean of true and predicted volume (ml)", "predicted − true volume (ml)")],
        ),
        ("dice_by_site", "60 scans of 52 persons", [("Dice of the main lesion", "site, worst first")]),
        (
            "learning_curves",
            f"{9 * FOLDS} trainings",
            [("", "training loss"), ("epoch", "validation Dice, main")],
        ),
        (
            "nine_cells",
            "60 scans with a main lesion",
            [("Dice of the main lesion", "network and loss, highest first"), ("Dice of the sub-lesion", "")],
        ),
    ],
)
def test_every_figure_states_its_n_and_every_axis_its_name_and_unit(name, n, labels):
    figure = draw(name)
    assert figure.axes[0].get_title(loc="left") == f"n = {n}"
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes] == labels


@pytest.mark.parametrize("name", DRAWN)
def test_a_png_hangs_neither_on_the_users_settings_nor_on_when_and_by_what_it_was_made(name):
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 10}):
        before = dict(matplotlib.rcParams)
        content = encode_png(draw(name))
        assert dict(matplotlib.rcParams) == before
    assert encode_png(draw(name)) == content
    assert content.startswith(b"\x89PNG")
    assert not any(chunk in content for chunk in (b"tEXt", b"iTXt", b"tIME"))


@styled
def written(figure):
    """Draw a figure; return the boxes of all that is written in and around its axes, and of itself, in pixels."""
    FigureCanvasAgg(figure).draw()
    texts = [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        limits = sorted(axes.get_xlim()), sorted(axes.get_ylim())
        texts += [*axes.texts, axes.xaxis.label, axes.yaxis.label]
        for axis, (low, high), place in zip((axes.xaxis, axes.yaxis), limits, (0, 1), strict=True):
            texts += [label for label in axis.get_ticklabels() if low <= label.get_position()[place] <= high]
    return [text.get_window_extent() for text in texts if text.get_text()], figure.bbox


def many_sites():
    """A scan at each of 55 sites with long names."""
    return pd.DataFrame([scan(site=f"R{number:03d}-university-hospital", dice=number / 60) for number in range(55)])


@pytest.mark.parametrize("figure", [*map(draw, DRAWN), figures.draw_dice_by_site(many_sites())], ids=[*DRAWN, "55 sites"])
def test_no_text_covers_another_or_leaves_the_figure(figure):
    boxes, paper = written(figure)
    assert len(boxes) > 5
    for box in boxes:
        assert paper.x0 <= box.x0 < box.x1 <= paper.x1
        assert paper.y0 <= box.y0 < box.y1 <= paper.y1
    assert not [(one, other) for place, one in enumerate(boxes) for other in boxes[:place] if one.overlaps(other)]


def test_dice_by_volume_draws_each_scan_that_has_the_lesion_and_the_human_tracers():
    rows = SHOWN[(SHOWN["lesion"] == "main") & (SHOWN["truth_ml"] > 0)]
    axes = figures.draw_dice_by_volume(SHOWN).axes[0]
    assert len(points(axes)) == 60
    assert points(axes) == sorted(zip(rows["truth_ml"], rows["dice"], strict=True))
    assert [line.get_ydata()[0] for line in axes.lines] == [0.727, 0.839]
    tracers = {"between tracers .727": 0.727, "same tracer twice .839": 0.839}
    assert {text.get_text(): text.xy[1] for text in axes.texts} == tracers


def test_a_lesion_on_a_border_is_in_the_bin_above():
    bins = bin_sizes(pd.Series([0.0999, 0.1, 1, 9.999, 10, 50, 1e4]))
    assert list(bins) == ["< 0.1", "0.1 to 1", "1 to 10", "1 to 10", "10 to 50", "≥ 50", "≥ 50"]


def test_recall_by_size_draws_shares_counted_by_hand():
    # 0.1 to 1 ml: three of four touched, one of four matched; >= 50 ml: one, touched and not matched.
    found = [(True, True), (True, False), (True, False), (False, False)]
    rows = [lesion(0.5, *hit, person=f"p{number}") for number, hit in enumerate(found)] + [lesion(80, True, False)]
    axes = figures.draw_recall_by_size(pd.DataFrame(rows)).axes[0]
    touched, matched = (line.get_ydata() for line in axes.lines)
    np.testing.assert_array_equal(touched, [np.nan, 0.75, np.nan, np.nan, 1])
    np.testing.assert_array_equal(matched, [np.nan, 0.25, np.nan, np.nan, 0])
    assert [(text.get_text(), text.get_position()[0]) for text in axes.texts] == [("no lesions", place) for place in (0, 2, 3)]
    assert [text.split("\n")[1] for text in tick_texts(axes.xaxis)] == ["n = 0", "n = 4", "n = 0", "n = 0", "n = 1"]


def test_recall_by_size_draws_the_intervals_over_persons():
    lesions = of(STUDY.lesions)
    middle = lesions[(lesions["volume_ml"] >= 1) & (lesions["volume_ml"] < 10)]
    bars = figures.draw_recall_by_size(lesions).axes[0].collections
    for column, bar in zip(("is_touched", "is_matched"), bars, strict=True):
        low, high = np.asarray(bar.get_segments()[2])[:, 1]
        assert (low, high) == bootstrap_interval(middle[column], middle["person"])[1:]


def test_bland_altman_draws_mean_and_limits_counted_by_hand():
    # Differences 2, -1, 3 ml: mean 4/3, variance (4/9 + 49/9 + 25/9) / 2 = 13/3.
    pairs = [(10.0, 12.0), (20.0, 19.0), (30.0, 33.0)]
    rows = [scan(truth_ml=truth, pred_ml=pred, volume_difference_ml=pred - truth) for truth, pred in pairs]
    axes = figures.draw_bland_altman(pd.DataFrame(rows)).axes[0]
    assert points(axes) == [(11.0, 2.0), (19.5, -1.0), (31.5, 3.0)]
    limit = 1.96 * (13 / 3) ** 0.5
    np.testing.assert_allclose([line.get_ydata()[0] for line in axes.lines], [4 / 3, 4 / 3 + limit, 4 / 3 - limit])
    assert [text.get_text() for text in axes.texts] == ["mean +1.3 ml", "+1.96 SD +5.4 ml", "−1.96 SD −2.7 ml"]


def test_dice_by_site_lists_the_worst_site_first_with_its_n():
    rows = [scan(site=site, dice=dice) for site, dice in (("good", 0.8), ("bad", 0.1), ("bad", 0.5))]
    axes = figures.draw_dice_by_site(pd.DataFrame([*rows, scan(site="empty", truth_ml=0.0)])).axes[0]
    assert tick_texts(axes.yaxis) == ["bad (n = 2)", "good (n = 1)"]
    assert axes.yaxis_inverted()
    assert points(axes) == [(0.1, 0), (0.5, 0), (0.8, 1)]
    np.testing.assert_allclose(axes.collections[1].get_offsets(), [(0.3, 0), (0.8, 1)])


def test_learning_curves_draw_means_over_folds_of_the_epochs_that_were_measured():
    upper, lower = draw("learning_curves").axes
    for axes, column, epochs in ((upper, "training_loss", range(1, 21)), (lower, "dice_main", range(2, 21, 2))):
        drawn = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
        assert len(drawn) == 9
        for network, loss, _ in experiments():
            run = of(STUDY.history, network, loss)
            line = drawn[f"{network} {loss}"]
            assert list(line.get_xdata()) == list(epochs)
            np.testing.assert_allclose(line.get_ydata(), [run.loc[run["epoch"] == epoch, column].mean() for epoch in epochs])


def test_learning_curves_have_a_color_a_network_and_a_line_style_a_loss():
    lines = [line for line in draw("learning_curves").axes[0].lines if not line.get_label().startswith("_")]
    looks = {tuple(line.get_label().split()): (line.get_color(), line.get_linestyle()) for line in lines}
    for part in (0, 1):
        assert (
            len({(name[part], look[part]) for name, look in looks.items()}) == len({look[part] for look in looks.values()}) == 3
        )


def test_nine_cells_draws_the_table_with_the_highest_main_dice_first():
    figure = draw("nine_cells")
    main = STUDY.table[STUDY.table["lesion"] == "main"].sort_values("dice", ascending=False)
    names = list(zip(main["network"], main["loss"], strict=True))
    assert tick_texts(figure.axes[0].yaxis) == ["  ".join(name) for name in names]
    assert figure.axes[0].yaxis_inverted()
    for axes, name in zip(figure.axes, ("main", "sub"), strict=True):
        rows = STUDY.table[STUDY.table["lesion"] == name].set_index(["network", "loss"]).loc[names]
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), rows["dice"])
        np.testing.assert_array_equal([segment[:, 0] for segment in axes.collections[0].get_segments()], rows[["low", "high"]])


def test_nine_cells_without_any_sub_lesion_says_so():
    axes = figures.draw_nine_cells(STUDY.table[STUDY.table["lesion"] != "sub"]).axes[1]
    assert np.isnan(axes.lines[0].get_xdata()).all()
    assert axes.get_title(loc="left") == "n = 0 scans with a sub-lesion"


def test_one_scan_is_drawn_without_intervals_and_without_a_warning():
    for function in (figures.draw_dice_by_volume, figures.draw_bland_altman, figures.draw_dice_by_site):
        assert encode_png(function(pd.DataFrame([scan()])))
    assert encode_png(figures.draw_recall_by_size(pd.DataFrame([lesion(1.0)])))


def test_dollar_signs_in_names_are_no_mathematics():
    axes = figures.draw_dice_by_site(pd.DataFrame([scan(site="$a_b$")])).axes[0]
    assert not axes.yaxis.get_ticklabels()[0].get_text().startswith("$")
    assert encode_png(axes.figure)
