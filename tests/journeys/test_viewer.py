"""Pages of new scans in a browser: the viewer draws and answers, and the cohort is sorted."""

import re
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
import torch
from drawn_scan import AFFINE, SHAPE, drawn
from scipy.spatial.transform import Rotation

from strokelesion.pipeline.derivatives.scan_pages import write_cohort_page, write_scan_page
from strokelesion.pipeline.lesions.lesion_table import lesion_rows

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OFFLINE = (
    "--headless --no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync --proxy-server=127.0.0.1:9 "
    "--window-size=900,700 --virtual-time-budget=20000"
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs a Chromium to open the page in")


def in_browser(page, script, tmp_path):
    """Return what a script, run in a page, writes into the body's data."""
    driven = tmp_path / page.name
    before, end, after = page.read_text().rpartition("</body>")  # NiiVue writes pages, too
    driven.write_text(f"{before}<script>{{{script}}}</script>{end}{after}")
    command = [BROWSER, *OFFLINE.split(), "--dump-dom", f"file://{driven}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return dict(re.findall(r'data-([a-z]+)="([^"]*)"', re.search(r"<body[^>]*>", done.stdout)[0]))


def test_the_viewer_draws_and_answers_to_slider_outline_and_table(tmp_path):
    """The slices of the scan lie oblique; each look is a picture of the canvas."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", (15, -10, 20), degrees=True).as_matrix()
    image, scan = drawn(turn @ AFFINE)
    write_scan_page(tmp_path / "in/scan.html", "sub-1", image, torch.ones(1, *SHAPE), scan, lesion_rows(scan), [])
    script = """
    const wait = setInterval(() => {
      if (document.body.dataset.ready !== "yes") return;
      clearInterval(wait);
      const canvas = document.getElementById("gl");
      const look = () => { viewer.drawScene(); return canvas.toDataURL(); };
      const set = (id, change) => {
        const field = document.getElementById(id);
        change(field);
        field.dispatchEvent(new Event("input"));
        return look();
      };
      const data = document.body.dataset, blank = document.createElement("canvas");
      [blank.width, blank.height] = [canvas.width, canvas.height];
      const first = look();
      data.drawn = first !== blank.toDataURL() && first.length > 5000;
      const filled = set("outline", (box) => { box.checked = false; });
      data.filled = filled !== first;
      const faint = set("opacity", (slider) => { slider.value = 20; });
      data.opacity = faint !== filled;
      const bright = set("bright", (slider) => { slider.value = 100; });
      data.bright = bright !== faint;
      const position = document.getElementById("position").textContent;
      document.querySelectorAll("tr[data-mm]")[1].click();
      data.clicked = look() !== bright;
      data.moved = document.getElementById("position").textContent !== position;
      [..."xyz"].forEach((axis, n) => { data[axis] = viewer.frac2mm(viewer.scene.crosshairPos, 0, true)[n]; });
    }, 100);
    """
    found = in_browser(tmp_path / "in/scan.html", script, tmp_path)
    center_mm = nib.affines.apply_affine(turn @ AFFINE, [31.5, 11.5, 29])
    np.testing.assert_allclose([float(found.pop(axis)) for axis in "xyz"], center_mm, atol=2)
    answers = ("drawn", "filled", "opacity", "bright", "clicked", "moved")
    assert found == dict.fromkeys(answers, "true") | {"ready": "yes"}


def test_the_cohort_is_sorted_by_a_click(tmp_path):
    (tmp_path / "cuts.jpg").touch()
    common = {"page": "p", "mosaic": tmp_path / "cuts.jpg", "lesions": 1}
    rows = ((5.0, []), (30.0, []), (1.0, ["w"]))
    scans = [{**common, "name": f"sub-{n}", "total_ml": ml, "warnings": warnings} for n, (ml, warnings) in enumerate(rows)]
    write_cohort_page(tmp_path / "in/index.html", scans, {})
    script = """
    const order = () => [...document.querySelectorAll("article")].map((one) => one.dataset.name.slice(-1)).join("");
    for (const button of document.querySelectorAll("button")) {
      button.click();
      document.body.dataset[button.dataset.by] = order();
    }
    """
    found = in_browser(tmp_path / "in/index.html", script, tmp_path)
    assert found == {"name": "012", "volume": "102", "warnings": "210"}
