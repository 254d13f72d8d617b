"""Pages of new scans: cuts through the lesions, names escaped, nothing loaded, and a viewer that answers in a browser."""

import base64
import gzip
import io
import re
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image
from scipy.spatial.transform import Rotation

from strokelesion.pipeline.inference import scan_pages
from strokelesion.pipeline.inference.lesion_table import SegmentedScan, lesion_rows
from strokelesion.pipeline.inference.scan_pages import border, cut_levels, mosaic, write_cohort_page, write_scan_page

SHAPE = (44, 52, 40)
AFFINE = np.array([[-2.0, 0, 0, 40], [0, 2, 0, -50], [0, 0, 2, -30], [0, 0, 0, 1]])
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OFFLINE = (
    "--headless --no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync --proxy-server=127.0.0.1:9 "
    "--window-size=1100,1000 --virtual-time-budget=20000"
)
NAME = "sub-<b>01</b>"


def drawn(affine=AFFINE):
    """A head of noise with a main lesion on the patient's right and a sub-lesion elsewhere."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[8:16, 20:30, 14:22] = 1  # the first axis runs to the left
    labels[30:34, 10:14, 28:31] = 2
    image = torch.rand((1, *SHAPE), generator=torch.Generator().manual_seed(0)) * 50 + 100
    image[0][torch.from_numpy(labels) > 0] = 20
    probability = np.where(labels > 0, 0.9, 0.1)
    return MetaTensor(image, affine=torch.from_numpy(affine)), SegmentedScan(labels, probability, 100.0, affine, np.eye(4))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    image, scan = drawn()
    path = tmp_path_factory.mktemp("pages") / "scan.html"
    write_scan_page(path, NAME, image, torch.ones(1, *SHAPE), scan, lesion_rows(scan), ["look <i>here</i>"])
    return path


def test_cuts_go_through_the_lesions_and_where_there_is_none_through_the_brain():
    label = np.zeros((5, 6, 60), dtype=np.uint8)
    assert cut_levels(label) == sorted(set(cut_levels(label)))
    assert len(cut_levels(label)) == 6
    label[1:4, 1:4, 31] = 1
    label[2, 2, 7:9] = 2
    levels = cut_levels(label)
    assert 31 in levels
    assert len(levels) == 6


def test_cuts_show_the_left_on_the_left():
    _, scan = drawn()
    ras = np.flip(scan.labels, 0)
    picture = np.asarray(Image.open(io.BytesIO(mosaic(np.full(SHAPE, 80, np.uint8), ras)))).astype(int)
    assert picture.shape == (SHAPE[1], 6 * SHAPE[0], 3)
    red = (picture[..., 0] - picture[..., 2] > 100).reshape(SHAPE[1], 6, SHAPE[0]).any(axis=(0, 1))
    assert red[-16:-8].any()
    assert not red[: SHAPE[0] // 2].any()


def test_borders_are_the_outermost_voxels():
    label = MetaTensor(torch.zeros(1, 9, 9, 9, dtype=torch.uint8))
    label[0, 2:7, 2:7, 2:7] = 2
    assert int((border(label) == 2).sum()) == 125 - 27


def test_a_page_is_whole_escapes_names_and_says_what_it_is_for(page):
    text = page.read_text()
    body = text[text.index("<body>") : text.index("<script>")]
    assert "sub-&lt;b&gt;01&lt;/b&gt;" in body
    assert "look &lt;i&gt;here&lt;/i&gt;" in body
    assert "Research use only; not a medical device" in body
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)=[\"'](?!data:)", body)


def test_the_volumes_of_a_page_lie_where_the_scan_does(page):
    found = re.search(r'"label": "([^"]+)"', page.read_text())[1]
    label = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(found)))
    inside = np.argwhere(np.asarray(label.dataobj) == 1)
    center_mm = nib.affines.apply_affine(label.affine, inside).mean(axis=0)
    expected = nib.affines.apply_affine(AFFINE, [11.5, 24.5, 17.5])
    np.testing.assert_allclose(center_mm, expected, atol=1)
    assert nib.aff2axcodes(label.affine) == ("R", "A", "S")


def stored(folder, jpeg):
    path = folder / "mosaic.jpg"
    path.write_bytes(jpeg)
    return path


def test_the_page_of_the_cohort_has_a_row_a_scan_and_the_failures(tmp_path):
    cuts = stored(tmp_path, b"jpeg")
    scans = [
        {"name": NAME, "page": "pages/a.html", "mosaic": cuts, "warnings": ["w1"], "total_ml": 2.25, "lesions": 1},
        {"name": "sub-2", "page": "pages/b.html", "mosaic": cuts, "warnings": [], "total_ml": 30.0, "lesions": 3},
    ]
    write_cohort_page(tmp_path / "index.html", scans, {"bad<x>.nii": "no & T1"})
    text = (tmp_path / "index.html").read_text()
    assert text.count("<article") == 2
    assert "2.2 ml in 1 lesion;" in text
    assert "30.0 ml in 3 lesions" in text
    assert "bad&lt;x&gt;.nii: no &amp; T1" in text
    assert NAME not in text


def test_the_cuts_of_a_large_cohort_are_shrunk_until_they_fit(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (60, 400, 3), dtype=np.uint8)
    cuts = stored(tmp_path, scan_pages.as_jpeg(Image.fromarray(noise)))
    row = {"page": "p", "mosaic": cuts, "warnings": [], "total_ml": 1.0, "lesions": 1}
    scans = [{**row, "name": f"sub-{n}"} for n in range(9)]

    def pictures():
        write_cohort_page(tmp_path / "index.html", scans, {})
        found = re.findall(r"base64,([^\"]+)\"", (tmp_path / "index.html").read_text())
        return [base64.b64decode(picture) for picture in found]

    assert pictures() == [cuts.read_bytes()] * 9
    monkeypatch.setattr(scan_pages, "COHORT_PICTURES_BYTES", 9 * cuts.stat().st_size / 4)
    assert Image.open(io.BytesIO(pictures()[0])).size == (200, 30)
    assert sum(map(len, pictures())) < 1.2 * scan_pages.COHORT_PICTURES_BYTES


def in_browser(page, script, tmp_path):
    """Return what a script, run in a page, writes into the body's data."""
    driven = tmp_path / page.name
    before, end, after = page.read_text().rpartition("</body>")  # NiiVue writes pages, too
    driven.write_text(f"{before}<script>{{{script}}}</script>{end}{after}")
    done = subprocess.run(
        [BROWSER, *OFFLINE.split(), "--dump-dom", f"file://{driven}"], capture_output=True, text=True, timeout=120
    )
    return dict(re.findall(r'data-([a-z]+)="([^"]*)"', re.search(r"<body[^>]*>", done.stdout)[0]))


@pytest.mark.skipif(BROWSER is None, reason="needs a Chromium to open the page in")
def test_the_viewer_draws_and_answers_to_slider_outline_and_table(page, tmp_path):
    """Each look is a picture of the canvas; the bounds of red are those of the main lesion, on the right of its panel."""
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
      data.filled = set("outline", (box) => { box.checked = false; }) !== first;
      const filled = look();
      data.opacity = set("opacity", (slider) => { slider.value = 20; }) !== filled;
      const before = look();
      data.bright = set("bright", (slider) => { slider.value = 100; }) !== before;
      const place = document.getElementById("place").textContent, bright = look();
      document.querySelectorAll("tr[data-mm]")[1].click();
      data.clicked = look() !== bright;
      data.moved = document.getElementById("place").textContent !== place;
      data.done = "yes";
    }, 100);
    """
    found = in_browser(page, script, tmp_path)
    assert found == dict.fromkeys(("drawn", "filled", "opacity", "bright", "clicked", "moved"), "true") | {
        "ready": "yes",
        "done": "yes",
    }


@pytest.mark.skipif(BROWSER is None, reason="needs a Chromium to open the page in")
def test_the_viewer_goes_to_a_lesion_of_a_scan_whose_slices_lie_oblique(tmp_path):
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", (15, -10, 20), degrees=True).as_matrix()
    image, scan = drawn(turn @ AFFINE)
    write_scan_page(tmp_path / "in/scan.html", NAME, image, torch.ones(1, *SHAPE), scan, lesion_rows(scan), [])
    script = """
    const wait = setInterval(() => {
      if (document.body.dataset.ready !== "yes") return;
      clearInterval(wait);
      document.querySelectorAll("tr[data-mm]")[1].click();
      [..."xyz"].forEach((axis, n) => { document.body.dataset[axis] = viewer.frac2mm(viewer.scene.crosshairPos, 0, true)[n]; });
    }, 100);
    """
    found = in_browser(tmp_path / "in/scan.html", script, tmp_path)
    center_mm = nib.affines.apply_affine(turn @ AFFINE, [31.5, 11.5, 29])
    np.testing.assert_allclose([float(found[axis]) for axis in "xyz"], center_mm, atol=2)


@pytest.mark.skipif(BROWSER is None, reason="needs a Chromium to open the page in")
def test_the_cohort_is_sorted_by_a_click(tmp_path):
    cuts = stored(tmp_path, b"")
    scans = [
        {"name": f"sub-{n}", "page": "p", "mosaic": cuts, "warnings": ["w"] * (n == 2), "total_ml": ml, "lesions": 1}
        for n, ml in enumerate((5.0, 30.0, 1.0))
    ]
    page = tmp_path / "in/index.html"
    write_cohort_page(page, scans, {})
    script = """
    const order = () => [...document.querySelectorAll("article")].map((one) => one.dataset.name.slice(-1)).join("");
    for (const button of document.querySelectorAll("button")) {
      button.click();
      document.body.dataset[button.dataset.by] = order();
    }
    """
    assert in_browser(page, script, tmp_path) == {"name": "012", "volume": "102", "warnings": "210"}
