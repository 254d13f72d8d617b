"""Pages of new scans as files in a browser: the viewer draws and answers, and the cohort is sorted and filtered."""

import numpy as np
import pytest
from browser import READY, needs_browser, open_browser
from nibabel.affines import apply_affine
from reviewed_folder import AFFINES, write_reviewed

from strokelesion.pipeline.derivatives.scan_pages import write_cohort_page

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page():
    with open_browser() as browser:
        yield browser.new_page(viewport={"width": 900, "height": 700})


def test_the_viewer_draws_and_answers_to_slider_outline_and_table(page, tmp_path):
    """The slices of the scan lie oblique; each look is a picture of the canvas."""
    page.goto(f"file://{write_reviewed(tmp_path / 'out', ['oblique'])}/pages/sub-oblique.html")
    page.wait_for_selector(READY)
    looks = [page.evaluate("() => { viewer.drawScene(); return byId('gl').toDataURL(); }")]

    def differs(work):
        work()
        looks.append(page.evaluate("() => { viewer.drawScene(); return byId('gl').toDataURL(); }"))
        return looks[-1] != looks[-2] and len(looks[-1]) > 5000

    assert differs(lambda: page.uncheck("#outline"))
    assert differs(lambda: page.locator("#opacity").fill("20"))
    assert differs(lambda: page.locator("#bright").fill("100"))
    position = page.locator("#position").inner_text()
    assert differs(lambda: page.locator("tr[data-mm]").nth(1).click())
    assert page.locator("#position").inner_text() != position
    found_mm = page.evaluate("() => Array.from(viewer.frac2mm(viewer.scene.crosshairPos, 0, true)).slice(0, 3)")
    np.testing.assert_allclose(found_mm, apply_affine(AFFINES["oblique"], [31.5, 11.5, 29]), atol=2)


def test_the_cohort_is_sorted_and_filtered(page, tmp_path):
    (tmp_path / "cuts.jpg").touch()
    common = {"page": "p", "mosaic": tmp_path / "cuts.jpg", "lesions": 1}
    rows = ((5.0, [], 0.2), (30.0, [], 0.1), (1.0, ["w"], 0.3), (2.0, [], None))
    scans = [
        {**common, "name": f"sub-{n}", "total_ml": ml, "mask": "automatic", "warnings": warnings, "uncertainty": uncertainty}
        for n, (ml, warnings, uncertainty) in enumerate(rows)
    ]
    write_cohort_page(tmp_path / "in/index.html", scans, {})
    page.goto(f"file://{tmp_path}/in/index.html")
    names = "(all) => all.filter((one) => !one.hidden).map((one) => one.dataset.name.slice(-1)).join('')"

    def shown():
        return page.locator("article").evaluate_all(names)

    for by, order in (("name", "0123"), ("volume", "1032"), ("warnings", "2103"), ("uncertainty", "2013")):
        page.click(f"[data-by={by}]")
        assert shown() == order
    page.fill("#least", "1.5")
    page.fill("#most", "20")
    assert shown() == "03"
    page.fill("#uncertain", "0.1")
    assert shown() == "0"
    assert page.locator("#counts").inner_text() == "1 of 4 shown"
    page.fill("#least", "")
    page.check("#of-warnings")
    assert shown() == "2"
    assert not page.locator(".reviewed").first.is_visible()
