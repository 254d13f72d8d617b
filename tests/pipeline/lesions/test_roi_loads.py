"""Lesion loads of ROIs: by hand for binary, probabilistic and overlapping ones on any grid; what is no ROI is named."""

import nibabel as nib
import numpy as np
import pytest

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.table_columns import NAMED_BY, TABLES
from strokelesion.pipeline.lesions.lesion_table import SegmentedScan
from strokelesion.pipeline.lesions.roi_loads import read_rois, roi_rows

# A scan of 2 mm whose millimeters are twice those of MNI along x: 1 ml of it is 0.5 ml in MNI space.
AFFINE = np.array([[2.0, 0, 0, -40], [0, 2, 0, -40], [0, 0, 2, -20], [0, 0, 0, 1]])
TO_MNI = np.diag([0.5, 1.0, 1.0, 1.0])
GRID = np.array([[1.0, 0, 0, -30], [0, 1, 0, -45], [0, 0, 1, -25], [0, 0, 0, 1]])

FAR = np.array([[1.0, 0, 0, 270], [0, 1, 0, -45], [0, 0, 1, -25], [0, 0, 0, 1]])


def scan(to_mni=TO_MNI, **changes):
    """Return a scan with a lesion from x -41 to -21, y -41 to -1, z -21 to -1 mm: in MNI space x is -20.5 to -10.5."""
    labels = np.zeros((40, 44, 24), np.uint8)
    labels[:10, :20, :10] = 1
    labels[0, 0, 0] = 2
    return SegmentedScan(labels, np.zeros(labels.shape), 1000.0, AFFINE, to_mni, **changes)


def write(folder, name, boxes, grid=GRID, shape=(60, 70, 50), code=4):
    """Write an ROI with a value in each box of MNI millimeters (half open, as limits of each axis)."""
    values = np.zeros(shape, np.float32)
    positions = nib.affines.apply_affine(grid, np.moveaxis(np.indices(shape), 0, -1))
    for low, high, value in boxes:
        values[((positions >= low) & (positions < high)).all(axis=-1)] = value
    image = nib.Nifti1Image(values, grid)
    image.set_sform(grid, code)
    image.set_qform(grid, code)
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(image, folder / name)


def test_loads_by_hand(tmp_path):
    # In the lesion: x -20 to -11, that is 10 voxels, y -40 to -2 and z -20 to -2.
    write(tmp_path, "whole.nii.gz", [((-18, -20, -15), (-14, -10, -5), 1)])
    write(tmp_path, "half.nii", [((-14, -20, -15), (-7, -10, -5), 1)])
    tract = [((-18, -20, -15), (-14, -10, -5), 0.25), ((10, -20, -15), (14, -10, -5), 0.75)]
    write(tmp_path / "tracts", "tract.nii.gz", tract)
    write(tmp_path, "away.nii.gz", [((10, 0, 0), (12, 2, 2), 1)])
    coarse = GRID @ np.diag([-2.0, 2, 2, 1])
    coarse[0, 3] = 29
    write(tmp_path, "coarse.nii.gz", [((-18, -20, -15), (-14, -10, -5), 1)], grid=coarse, shape=(30, 35, 25))
    rows = roi_rows(scan(), read_rois(tmp_path))
    assert all([*NAMED_BY, *row] == [*TABLES["rois"].columns] for row in rows)
    found = {row["roi"]: pytest.approx((row["roi_ml"], row["volume_ml"], row["roi_percent"])) for row in rows}
    assert found == {
        "away": (0.008, 0, 0),
        "coarse": (0.4, 0.8, 100),
        "half": (0.7, 2 * 0.4, 100 * 4 / 7),
        "tract": (0.4, 0.2, 25),
        "whole": (0.4, 0.8, 100),
    }


@pytest.mark.parametrize("lost", [scan(None), scan(knows_left=False)])
def test_without_a_place_or_a_side_the_rows_stay_and_are_unknown(lost, tmp_path):
    write(tmp_path, "roi.nii.gz", [((-18, -20, -15), (-14, -10, -5), 1)])
    (row,) = roi_rows(lost, read_rois(tmp_path))
    assert row["roi_ml"] == pytest.approx(0.4)
    assert np.isnan([row["volume_ml"], row["roi_percent"]]).all()


BOX = [((-18, -20, -15), (-14, -10, -5), 1)]


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("empty.nii.gz", {"boxes": []}, "is empty"),
        ("bytes.nii.gz", {"boxes": [(*BOX[0][:2], 255)]}, "has values from 0 to 255"),
        ("percent.nii.gz", {"boxes": [(*BOX[0][:2], 100)]}, "has values from 0 to 100"),
        ("negative.nii.gz", {"boxes": [(*BOX[0][:2], -1)]}, "has values from -1 to 0"),
        ("unknown.nii.gz", {"boxes": [(*BOX[0][:2], np.nan)]}, "has values from nan to nan"),
        ("far.nii.gz", {"boxes": [((280, 0, 0), (290, 9, 9), 1)], "grid": FAR}, "has only"),
        ("nowhere.nii.gz", {"boxes": BOX, "code": 0}, "has no affine"),
        ("a_space-T1w_mask.nii.gz", {"boxes": BOX}, "is in the space T1w by its name"),
    ],
)
def test_what_is_no_roi_is_named_with_the_reason(name, options, problem, tmp_path):
    write(tmp_path, "good.nii.gz", BOX)
    write(tmp_path, name, **options)
    with pytest.raises(UserError, match=rf"1 files cannot be used as ROIs:\n  \S*{name}: {problem}.*\n.*values from 0 to 1"):
        read_rois(tmp_path)


def test_a_folder_needs_files_with_names_of_their_own(tmp_path):
    with pytest.raises(UserError, match="found no ROI in"):
        read_rois(tmp_path)
    write(tmp_path / "a", "roi.nii.gz", BOX)
    write(tmp_path / "b", "roi.nii", BOX)
    with pytest.raises(UserError, match="2 ROIs share their names"):
        read_rois(tmp_path)
