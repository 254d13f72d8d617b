"""Pages of new scans: cuts through the lesions, names escaped, nothing loaded; `test_viewer` opens them in a browser."""

import base64
import gzip
import io
import re

import nibabel as nib
import numpy as np
import torch
from drawn_scan import AFFINE, SHAPE, drawn
from monai.data import MetaTensor
from PIL import Image

from strokelesion.pipeline.derivatives import scan_pages
from strokelesion.pipeline.derivatives.scan_pages import border, cut_levels, mosaic, write_cohort_page, write_scan_page
from strokelesion.pipeline.lesions.lesion_table import lesion_rows

NAME = "sub-<b>01</b>"


def test_cuts_go_through_the_lesions_and_where_there_is_none_through_the_brain():
    label = np.zeros((5, 6, 60), dtype=np.uint8)
    assert len(levels := cut_levels(label)) == 6
    assert levels == sorted(set(levels))
    label[1:4, 1:4, 31] = 1
    label[2, 2, 7:9] = 2
    assert len(levels := cut_levels(label)) == 6
    assert 31 in levels


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


def test_a_page_is_whole_escapes_names_and_its_volumes_lie_where_the_scan_does(tmp_path):
    image, scan = drawn()
    write_scan_page(tmp_path / "scan.html", NAME, image, torch.ones(1, *SHAPE), scan, lesion_rows(scan), ["look <i>here</i>"])
    text = (tmp_path / "scan.html").read_text()
    body = text[text.index("<body>") : text.index("<script>")]
    for words in ("sub-&lt;b&gt;01&lt;/b&gt;", "look &lt;i&gt;here&lt;/i&gt;", "Research use only; not a medical device"):
        assert words in body
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)=[\"'](?!data:)", body)
    found = re.search(r'"label": "([^"]+)"', text)[1]
    label = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(found)))
    inside = np.argwhere(np.asarray(label.dataobj) == 1)
    center_mm = nib.affines.apply_affine(label.affine, inside).mean(axis=0)
    np.testing.assert_allclose(center_mm, nib.affines.apply_affine(AFFINE, [11.5, 24.5, 17.5]), atol=1)
    assert nib.aff2axcodes(label.affine) == ("R", "A", "S")


def test_the_page_of_the_cohort_has_a_row_a_scan_and_the_failures(tmp_path):
    (tmp_path / "cuts.jpg").write_bytes(b"jpeg")
    row = {"page": "pages/a.html", "mosaic": tmp_path / "cuts.jpg", "warnings": ["w1"], "mask": "manual"}
    scans = [{**row, "name": NAME, "total_ml": 2.25, "lesions": 1}, {**row, "name": "sub-2", "total_ml": 30.0, "lesions": 3}]
    write_cohort_page(tmp_path / "index.html", scans, {"bad<x>.nii": "no & T1"})
    text = (tmp_path / "index.html").read_text()
    assert text.count("<article") == 2
    for words in ("2.2 ml in 1 lesion, corrected;", "30.0 ml in 3 lesions", "bad&lt;x&gt;.nii: no &amp; T1"):
        assert words in text
    assert NAME not in text


def test_the_cuts_of_a_large_cohort_are_shrunk_until_they_fit(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (60, 400, 3), dtype=np.uint8)
    cuts = tmp_path / "cuts.jpg"
    cuts.write_bytes(scan_pages.as_jpeg(Image.fromarray(noise)))
    row = {"page": "p", "mosaic": cuts, "warnings": [], "mask": "automatic", "total_ml": 1.0, "lesions": 1}
    scans = [{**row, "name": f"sub-{n}"} for n in range(9)]

    def pictures():
        write_cohort_page(tmp_path / "index.html", scans, {})
        found = re.findall(r"base64,([^\"]+)\"", (tmp_path / "index.html").read_text())
        return [base64.b64decode(picture) for picture in found]

    assert pictures() == [cuts.read_bytes()] * 9
    monkeypatch.setattr(scan_pages, "COHORT_PICTURES_BYTES", 9 * cuts.stat().st_size / 4)
    assert Image.open(io.BytesIO(pictures()[0])).size == (200, 30)
    assert sum(map(len, pictures())) < 1.2 * scan_pages.COHORT_PICTURES_BYTES
