"""Pages of new scans: cuts through the lesions, names escaped, nothing loaded; `test_viewer` opens them in a browser."""

import base64
import gzip
import io
import json
import re

import nibabel as nib
import numpy as np
import torch
from drawn_scan import AFFINE, SHAPE, drawn
from PIL import Image

from strokelesion.pipeline.derivatives import scan_pages
from strokelesion.pipeline.derivatives.scan_images import as_image
from strokelesion.pipeline.derivatives.scan_pages import cut_levels, mosaic, write_cohort_page, write_scan_page
from strokelesion.pipeline.lesions.lesion_table import lesion_rows
from strokelesion.transforms.headers import mask_header

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


def test_a_page_is_whole_escapes_names_and_holds_the_part_of_the_scan_around_the_brain_on_its_own_grid(tmp_path):
    image, scan = drawn()
    brain = torch.zeros(1, *SHAPE)
    brain[:, 12:30, 20:32, 20:30] = 1
    header = mask_header(None, AFFINE)
    write_scan_page(tmp_path / "scan.html", NAME, image, brain, scan, header, lesion_rows(scan), ["look <i>here</i>"])
    text = (tmp_path / "scan.html").read_text()
    body = text[text.index("<body>") : text.index("<script>")]
    for words in ("sub-&lt;b&gt;01&lt;/b&gt;", "look &lt;i&gt;here&lt;/i&gt;", "Research use only; not a medical device"):
        assert words in body
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)=[\"'](?!data:|\.\./index\.html)", body)
    held = json.loads(re.search(r"const files = (.*);", text)[1])
    assert (held["start"], held["shape"]) == ([0, 2, 6], list(SHAPE))  # brain and lesions with 8 voxels around
    box = tuple(slice(start, start + size) for start, size in zip(held["start"], (42, 38, 33), strict=True))
    for name, expected in (("label", scan.labels), ("percent", np.where(scan.labels > 0, 90, 10))):
        volume = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(held[name])))
        np.testing.assert_array_equal(np.asarray(volume.dataobj), expected[box])
        np.testing.assert_allclose(volume.affine, AFFINE @ nib.affines.from_matvec(np.eye(3), held["start"]))
    whole = as_image(torch.zeros(SHAPE, dtype=torch.uint8), header).to_bytes()
    assert base64.b64decode(held["header"]) == whole[:352]


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
