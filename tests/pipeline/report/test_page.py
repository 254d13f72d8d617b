"""The page says what the frames hold, loads nothing, escapes every name, and opens complete in a browser."""

import base64
import io
import re
import shutil
import subprocess
from dataclasses import fields
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_frames import of, report

from strokelesion.networks import UserError
from strokelesion.pipeline.evaluation.comparison import IDENTITY
from strokelesion.pipeline.report.page import (
    METRICS,
    Report,
    average_for_comparison,
    format_number,
    format_p,
    rank_experiments,
    render,
    write_page,
)
from strokelesion.pipeline.report.published import PUBLISHED

FIGURES = ("nine_cells", "dice_by_volume", "recall_by_size", "bland_altman", "dice_by_site", "learning_curves")
FRAMES = ("table", "runs", "summary", "false_alarms", "scores", "lesions", "history")
SECTIONS = ("experiments", "runs", "scores", "where", "worst", "training", "literature", "how", "protocol")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OFFLINE = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --window-size=1100,9500"
)
PAGE_WITHOUT_PICTURES = dict.fromkeys(FIGURES, b"")


class Elements(HTMLParser):
    """All start tags of a page, as (tag, attributes)."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The invented study's report on disk."""
    return write_page(report(), tmp_path_factory.mktemp("report"))


def html(**changes):
    """The page of a changed study, without pictures, for they take long."""
    return render(report(**changes), PAGE_WITHOUT_PICTURES)


def seen(page):
    """What a reader reads: the page's text with single spaces."""
    body = page[page.index("<body>") :]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_report_is_a_page_its_figures_and_its_tables_always_the_same_bytes(written, tmp_path):
    tables = {f"{name}.csv" for name in (*FRAMES, "published")}
    pictures = {f"figures/{name}.png" for name in (*FIGURES, "worst_01", "worst_02", "worst_03")}
    assert {path.as_posix() for path in contents(written.parent)} == {"index.html"} | tables | pictures
    assert contents(write_page(report(), tmp_path).parent) == contents(written.parent)


@pytest.mark.parametrize("name", FRAMES)
def test_tables_hold_the_frames_to_six_decimals(written, name):
    table = pd.read_csv(written.parent / f"{name}.csv", dtype={"fold": int, "seed": str})
    pd.testing.assert_frame_equal(table, getattr(report(), name), check_dtype=False, rtol=0, atol=5.1e-7)
    assert not re.search(r"\.\d{7}", (written.parent / f"{name}.csv").read_text())


def test_pictures_in_the_page_are_those_in_the_folder(written):
    sources = [image["src"] for image in Elements(written.read_text()).of("img")]
    embedded = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources]
    files = {content for path, content in contents(written.parent).items() if path.suffix == ".png"}
    assert len(embedded) == len(files) == 9
    assert set(embedded) == files


def test_the_page_loads_nothing_and_runs_nothing(written):
    page = written.read_text()
    elements = Elements(page)
    assert {tag for tag, _ in elements.found}.isdisjoint(
        {"script", "link", "iframe", "object", "embed", "base", "form", "video"}
    )
    for _, attributes in elements.found:
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import|https?://", page)
    assert [link["href"] for link in elements.of("a")] == [f"#{section['id']}" for section in elements.of("section")]
    assert tuple(section["id"] for section in elements.of("section")) == SECTIONS
    assert all(len(image["alt"]) > 20 for image in elements.of("img"))
    policies = [meta["content"] for meta in elements.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_names_from_the_data_are_shown_as_they_are_and_never_run(tmp_path):
    evil, site = "<script>alert(1)</script>", "A&B"
    renamed = {
        field.name: getattr(report(), field.name).replace({"network": {"segnet": evil}, "site": {"R004": site}})
        for field in fields(Report)
        if field.name in FRAMES
    }
    changes = renamed | {"shown": (evil, "dice"), "notes": [evil], "settings": {evil: site}}
    worst = [(f"{site} {evil} ses-1", report().worst[0][1])]
    page = write_page(report(**changes, worst=worst), tmp_path).read_text()
    assert "<script" not in page
    assert site not in page
    assert seen(page).count(evil) > 5
    assert f"T1, truth and prediction of {site} {evil} ses-1" in [image["alt"] for image in Elements(page).of("img")]


def test_every_experiment_is_a_cell_with_dice_interval_p_and_n_and_the_best_is_named_first():
    text = seen(html())
    best = report().table.query("is_best and lesion == 'main'").iloc[0]
    named = f"Best on main lesions: {best.network} with {best.loss} , mean Dice {format_number(best.dice)}"
    assert text.index(named) < text.index("Which experiment is best")
    for row in report().table[report().table["lesion"] != "both"].itertuples():
        test = {"main": "best", "sub": "reference"}[row.lesion] if row.is_best else format_p(row.p_holm)
        interval = f"[{format_number(row.low)}, {format_number(row.high)}]"
        assert f"{row.lesion} {format_number(row.dice)} {interval} {test} n = {row.scans}" in text


def test_an_experiment_that_was_not_run_is_a_dash():
    table = report().table
    cells = html(table=table[(table["network"] != "unet") | (table["loss"] != "cce")])
    grid = cells[cells.index('class="cells"') : cells.index("</tbody>")]
    texts = [" ".join(re.sub(r"<[^>]*>", " ", text).split()) for text in re.findall(r"<td.*?</td>", grid, re.DOTALL)]
    assert texts.count("–") == 1


@pytest.mark.parametrize(
    ("p_holm", "difference", "kind"),
    [
        (0.05, -0.1, "equals"),
        (0.049, -0.1, "lower"),
        (0.049, 0.1, "higher"),
        (1.0, 0.0, "equals"),
        (np.nan, np.nan, "untested"),
    ],
)
def test_an_experiment_is_called_lower_only_when_the_test_says_so(p_holm, difference, kind):
    best = {"network": "unet", "loss": "dice", "lesion": "main", "dice": 0.6, "is_best": True, "p_holm": np.nan}
    best["difference"] = np.nan
    other = best | {"loss": "cce", "dice": 0.5, "is_best": False, "p_holm": p_holm, "difference": difference}
    ranked = rank_experiments(pd.DataFrame([best, other]))
    assert ranked["best"].loss == "dice"
    kinds = {key: [row.loss for row in ranked[key]] for key in ("equals", "lower", "higher", "untested")}
    assert kinds == {key: ["cce"] if key == kind else [] for key in kinds}


def test_one_experiment_alone_is_compared_with_none():
    assert "there is nothing to compare it with" in seen(html(table=of(report().table)))
    assert "there is nothing to compare it with" not in seen(html())


def shown_measure(row, decimals):
    """A mean as the page shows it; a dash where nothing was measured."""
    if not row.scans:
        return "–"
    mean, low, high = (format_number(value, decimals) for value in (row.mean, row.low, row.high))
    return f"{mean} [{low}, {high}] n = {row.scans}"


def test_every_measure_and_every_false_alarm_is_shown_with_interval_and_n():
    text, summary = seen(html()), of(report().summary)
    metrics = [metric for group in METRICS.values() for metric in group]
    assert {metric.column for metric in metrics} == {*report().scores.columns} - {*IDENTITY, "truth_ml", "pred_ml"}
    for row in of(report().false_alarms).itertuples():
        assert f"{row.lesion} {row.scans} {row.with_alarm} {format_number(row.share)}" in text
    for metric in metrics:
        rows = summary[summary["metric"] == metric.column].set_index("lesion").loc[["main", "sub", "both"]]
        assert " ".join([metric.label, *(shown_measure(row, metric.decimals) for row in rows.itertuples())]) in text


def test_published_numbers_stand_with_their_protocol_and_those_of_the_keras_study_only_beside_keras_dice():
    text, scores = seen(html()), of(report().scores)
    for row in PUBLISHED:
        assert row.protocol
        assert (row.compare_with == "keras_dice") == ("Keras study" in row.source)
        same = scores[scores["lesion"] == {"all": "both"}.get(row.lesion, row.lesion)]
        here = f"{format_number(same[row.compare_with].mean())} {row.compare_with}" if row.compare_with else "–"
        assert " ".join(f"{row.protocol} {row.further} {row.lesion} {row.dice} {here}".split()) in text


def test_scans_without_a_class_count_beside_the_keras_studys_numbers_as_it_counted_them():
    scores = pd.DataFrame(
        {"lesion": ["main", "main", "sub", "sub", "both", "both"], "keras_dice": [0.5, 0.7, 0.0, 0.2, 0.5, 0.7]}
    )
    scores = scores.assign(dice=[0.5, 0.7, np.nan, 0.4, 0.5, 0.7], atlas22_dice=1.0, isles26_dice=1.0)
    here = average_for_comparison(scores)
    assert here["sub", "keras_dice"] == pytest.approx(0.1)
    assert here["sub", "dice"] == pytest.approx(0.4)
    assert here["all", "dice"] == pytest.approx(0.6)


@pytest.mark.parametrize("is_phantom", [True, False])
def test_a_phantom_is_called_one_and_only_a_phantom(is_phantom):
    page = html(is_phantom=is_phantom)
    assert ("they say nothing about real scans" in seen(page)) is is_phantom


def test_notes_settings_and_the_intended_use_are_on_the_page():
    text = seen(html())
    assert report().notes[0] in text
    assert all(f"{name} {value}" in text for name, value in report().settings.items())
    assert "not a medical device" in text


def test_what_there_is_nothing_for_is_left_out_and_said(tmp_path):
    nothing = {"history": report().history[:0], "lesions": report().lesions[:0], "worst": [], "notes": []}
    scores = report().scores.assign(truth_ml=0.0, dice=np.nan)
    page = write_page(report(**nothing, scores=scores), tmp_path)
    assert [path.stem for path in sorted((tmp_path / "figures").iterdir())] == ["nine_cells"]
    for words in ("No training history", "no true lesions to find", "no scan with a main lesion", "No pictures were made"):
        assert words in seen(page.read_text())


def test_an_unknown_experiment_to_show_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(UserError, match=r"got the experiment vnet dice to show; allowed are resunet cce, resunet cce_dice"):
        write_page(report(shown=("vnet", "dice")), tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        *[(format_number(value), text) for value, text in ((0.5774, ".577"), (-0.02, "−.020"), (0.9999, "1.000"), (0, ".000"))],
        *[(format_number(value), text) for value, text in ((1.25, "1.250"), (10.05, "10.050"), (np.nan, "–"))],
        *[(format_number(value, 1), text) for value, text in ((0.04, "0.0"), (-23.35, "−23.4"))],
        *[(format_p(p), text) for p, text in ((0.0009, "p < .001"), (0.001, "p = .001"), (np.nan, "not tested"))],
    ],
)
def test_numbers_are_written_as_in_papers(shown, text):
    assert shown == text


def browse(page, profile, *arguments):
    options = [*OFFLINE.split(), "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", *arguments]
    done = subprocess.run([BROWSER, *options, page.as_uri()], capture_output=True, text=True, timeout=600, check=True)
    return done.stdout


@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome is installed")
def test_a_browser_shows_the_whole_page_with_ink_in_every_picture(written, tmp_path):
    dom = browse(written, tmp_path / "profile", "--dump-dom")
    assert all(f'id="{section}"' in dom for section in SECTIONS)
    assert dom.rstrip().endswith("</footer>\n\n</body></html>")
    colors = [(200, 20 * number + 10, 90) for number in range(len(Elements(dom).of("img")))]
    assert len(colors) == 9
    # The same page with flat pictures says where each one is on the screen.
    sources = iter(colors)
    flat = tmp_path / "flat.html"
    flat.write_text(re.sub(r"data:image/png;base64,[^\"]+", lambda uri: paint(uri[0], next(sources)), written.read_text()))
    shown, painted = (screenshot(page, tmp_path / "profile") for page in (written, flat))
    for color in colors:
        picture = shown[(painted == color).all(axis=2)]
        assert len(picture) > 100 * 100, f"the picture painted {color} is not on the screenshot"
        assert (picture.min(axis=1) < 150).mean() > 0.01


def screenshot(page, profile):
    """Return what the browser shows of the whole page `(H, W, 3)`."""
    target = profile.with_suffix(".png")
    browse(page, profile, f"--screenshot={target}")
    return np.asarray(Image.open(target).convert("RGB")).astype(int)


def paint(uri, color):
    """Return a picture of one color with the size of another one, as a data URI."""
    stream = io.BytesIO()
    Image.new("RGB", Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size, color).save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
