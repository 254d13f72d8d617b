"""Numbers of lesions: by hand in a drawn scan, for lesions, scan and regions."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.table_columns import NAMED_BY, TABLES
from strokelesion.pipeline.lesions.lesion_table import (
    Atlas,
    SegmentedScan,
    lesion_rows,
    read_atlas,
    region_rows,
    scan_row,
)

SHAPE, VOXEL_ML = (20, 24, 16), 2 * 3 * 4 / 1000
# Voxels of 2x3x4 mm; the scan lies 10 mm to the right of, 20 mm behind and 30 mm above where MNI has it.
AFFINE = np.array([[2.0, 0, 0, -20], [0, 3, 0, -30], [0, 0, 4, -20], [0, 0, 0, 1]])
TO_MNI = np.array([[1.0, 0, 0, -10], [0, 1, 0, 20], [0, 0, 1, -30], [0, 0, 0, 1]])


@pytest.fixture
def scan():
    """A main lesion of 25 voxels on MNI's left, one of them connected by a corner, and a sub-lesion of 2 on the right."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[2:6, 3:6, 4:6] = 1
    labels[6, 6, 6] = 1
    labels[18, 20:22, 10] = 2
    probability = np.where(labels > 0, 0.6, 0.1)
    probability[3, 4, 5], probability[18, 21, 10] = 0.9, 0.8
    return SegmentedScan(labels, probability, brain_ml=10.0, affine=AFFINE, to_mni=TO_MNI)


def test_rows_of_lesions(scan):
    first, second = lesion_rows(scan)
    assert [*NAMED_BY, *first] == list(TABLES["lesions"].columns)
    assert (first["lesion"], first["class"], first["hemisphere"]) == (1, "main", "left")
    assert (second["lesion"], second["class"], second["hemisphere"]) == (2, "sub", "right")
    assert first["volume_ml"] == pytest.approx(25 * VOXEL_ML)
    assert first["brain_percent"] == pytest.approx(10 * 25 * VOXEL_ML)
    assert first["mean_probability"] == pytest.approx((24 * 0.6 + 0.9) / 25)
    assert second["mean_probability"] == pytest.approx(0.7)
    # Voxel (3, 4, 5) is at (-14, -18, 0) mm of the scan; (18, 20.5, 10) at (16, 31.5, 20).
    assert [first[f"peak_{axis}_mm"] for axis in "xyz"] == pytest.approx([-24, 2, -30])
    assert [second[f"centroid_{axis}_mm"] for axis in "xyz"] == pytest.approx([6, 51.5, -10])


def test_the_row_of_a_scan(scan):
    row = scan_row(scan)
    assert {*NAMED_BY, *row, "uncertainty", "mask", "warnings"} == set(TABLES["volumes"].columns)
    assert row["lesions"] == 2
    volumes = [row[f"{part}_ml"] / VOXEL_ML for part in ("total", "main", "sub", "left", "right")]
    assert volumes == pytest.approx([27, 25, 2, 25, 2])
    healthy = SegmentedScan(np.zeros_like(scan.labels), scan.probability, 10.0, scan.affine, scan.to_mni)
    assert (lesion_rows(healthy), scan_row(healthy)["total_ml"]) == ([], 0)


def test_without_a_place_in_mni_space_there_are_volumes_but_no_sides(scan):
    lost = SegmentedScan(scan.labels, scan.probability, float("nan"), scan.affine, None)
    row, first = scan_row(lost), lesion_rows(lost)[0]
    assert row["total_ml"] == pytest.approx(27 * VOXEL_ML)
    assert first["hemisphere"] is None
    lacking = (first[key] for key in ("brain_percent", "centroid_x_mm", "peak_z_mm", "gray_percent"))
    assert np.isnan([row["left_ml"], row["right_ml"], *lacking]).all()
    assert region_rows(lost, Atlas(np.ones((2, 2, 2), int), np.eye(4), {1: "all"})) == []


def test_a_drawn_lesion_has_no_probability_and_the_class_of_most_of_it(scan):
    labels = scan.labels.copy()
    labels[6, 6, 6], labels[18, 21, 11] = 2, 1
    drawn = SegmentedScan(labels, None, 10.0, scan.affine, scan.to_mni)
    first, second = lesion_rows(drawn)
    assert np.isnan([first["mean_probability"], *(first[f"peak_{axis}_mm"] for axis in "xyz")]).all()
    assert (first["class"], second["class"], first["hemisphere"]) == ("main", "sub", "left")
    assert scan_row(drawn)["sub_ml"] == pytest.approx(3 * VOXEL_ML)


def test_tissue_shares_are_those_of_the_template():
    """Two voxels: the white matter above the left ventricle, and the corner of the field of view."""
    labels = np.zeros((2, 1, 1), dtype=np.uint8)
    labels[0] = 1
    affine = np.diag([300.0, 1, 1, 1])
    affine[:3, 3] = (-28, -20, 30)
    row = lesion_rows(SegmentedScan(labels, np.ones((2, 1, 1)), 1.0, affine, np.eye(4)))[0]
    assert (row["gray_percent"], row["white_percent"]) == (0, 100)


def test_loads_of_regions(scan, tmp_path):
    """Two halves of a box of 200 mm in voxels of 10 mm; MNI space is scaled by 1.1 along x."""
    half = np.zeros((20, 20, 20), dtype=np.int16)
    half[:10], half[10:] = 3, 7
    affine = np.diag([10.0, 10, 10, 1])
    affine[:3, 3] = -95
    nib.save(nib.Nifti1Image(half, affine), tmp_path / "atlas.nii.gz")
    pd.DataFrame({"index": [3, 7, 9], "name": ["left", "right", "none"]}).to_csv(tmp_path / "atlas.tsv", sep="\t", index=False)
    wider = SegmentedScan(scan.labels, scan.probability, 10.0, AFFINE, TO_MNI @ np.diag([1.1, 1, 1, 1]))
    rows = region_rows(wider, read_atlas(tmp_path / "atlas.nii.gz", tmp_path / "atlas.tsv"))
    assert [row["region"] for row in rows] == ["left", "right"]
    assert [row["volume_ml"] / VOXEL_ML for row in rows] == pytest.approx([25, 2])
    assert rows[0]["region_percent"] == pytest.approx(100 * 25 * VOXEL_ML * 1.1 / 4000)
    assert [*NAMED_BY, *rows[0]] == list(TABLES["regions"].columns)


@pytest.mark.parametrize(
    ("values", "columns", "message"),
    [
        (np.full((2, 2, 2), 0.5), ["index", "name"], "not whole; expected one 3D map"),
        (np.ones((2, 2, 2, 2)), ["index", "name"], r"shape \(2, 2, 2, 2\)"),
        (np.ones((2, 2, 2)), ["number", "name"], "has no column index; expected index and name"),
    ],
)
def test_what_is_no_atlas_is_refused(values, columns, message, tmp_path):
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.eye(4)), tmp_path / "atlas.nii")
    pd.DataFrame([[1, "a"]], columns=columns).to_csv(tmp_path / "atlas.csv", index=False)
    with pytest.raises(UserError, match=message):
        read_atlas(tmp_path / "atlas.nii", tmp_path / "atlas.csv")
