"""Lesions of many scans: incidence, sides and pictures by hand; the names are valid in BIDS."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.group_maps import (
    COUNT,
    INCIDENCE_PICTURE,
    SHARE,
    SHARED,
    VOLUMES_PICTURE,
    count_lesions,
    gather_group,
    side_of,
    side_rows,
)
from strokelesion.pipeline.derivatives.result_names import ScanName
from strokelesion.transforms.geometry import MNI_SPACE, grid_of

AFFINE, SIZE = grid_of(MNI_SPACE)
BOXES = [np.s_[60:80, 100:120, 80:100], np.s_[70:90, 100:120, 80:100], None, None]
VOLUMES_ML = [(8.0, 0.0, 8.0), (7.8, 0.2, 8.0), (0.0, 0.0, 0.0), (None, None, None)]


def write_masks(folder, affine=AFFINE):
    """Write four masks, two of them empty, and return names and sidecars of the scans; the last one was not assessed."""
    done = []
    for number, (box, volumes_ml) in enumerate(zip(BOXES, VOLUMES_ML, strict=True)):
        values = np.zeros(SIZE, np.uint8)
        if box:
            values[box] = 1
        path = folder / f"sub-{number}/anat/sub-{number}_space-{MNI_SPACE}_label-lesion_mask.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(values, np.asarray(affine)), path)
        row = dict(zip(("left_ml", "right_ml", "total_ml"), volumes_ml, strict=True))
        done.append((ScanName((("sub", str(number)),)), {"Tables": {"volumes": [{"lesions": 1, **row}]}}))
    return done


def test_maps_count_the_scans_with_lesion_in_each_voxel_and_their_names_are_valid(tmp_path, caplog):
    gather_group(tmp_path, write_masks(tmp_path), {}, True)
    assert "1 of 4 scans are not in the maps" in caplog.text
    count, share = (nib.load(tmp_path / name) for name in (COUNT, SHARE))
    expected = np.zeros(SIZE)
    for box in BOXES[:2]:
        expected[box] += 1
    np.testing.assert_array_equal(np.asarray(count.dataobj), expected)
    np.testing.assert_allclose(np.asarray(share.dataobj), expected / 3, atol=1e-6)
    assert count.affine.tolist() == AFFINE.tolist()
    assert json.loads((tmp_path / SHARE.replace(".nii.gz", ".json")).read_text())["NumberOfScans"] == 3
    with Image.open(tmp_path / INCIDENCE_PICTURE) as incidence, Image.open(tmp_path / VOLUMES_PICTURE) as volumes:
        mosaic, histogram = np.asarray(incidence).astype(int), volumes.size
    assert mosaic.shape == (3 * SIZE[1], 5 * SIZE[0], 3)
    red, green, blue = mosaic.transpose(2, 0, 1)
    for is_shown in (green < 130, green > 180):  # one scan of two, and both
        assert ((red > blue + 100) & is_shown).any()
    assert histogram == (600, 300)
    assert pd.read_csv(tmp_path / "group_sides.tsv", sep="\t")["scans"].tolist() == [2, 0, 0, 1, 1]
    about = {"Name": "group", "BIDSVersion": "1.11.0", "DatasetType": "derivative", "GeneratedBy": [{"Name": "strokelesion"}]}
    (tmp_path / "dataset_description.json").write_text(json.dumps(about))
    (tmp_path / ".bidsignore").write_text("group*\nsub-*\n")
    validator = Path(sys.executable).with_name("bids-validator-deno")
    found = subprocess.run([validator, tmp_path], capture_output=True, text=True)
    assert "[ERROR]" not in found.stdout + found.stderr
    assert found.returncode == 0


def test_without_masks_in_mni_space_there_are_no_maps_and_earlier_ones_go(tmp_path, caplog):
    done = write_masks(tmp_path)
    gather_group(tmp_path, done, {}, True)
    for mask in tmp_path.rglob("*_mask.nii.gz"):
        mask.unlink()
    gather_group(tmp_path, done, {}, True)
    assert "4 of 4 scans are not in the maps of the group: not assessed, or no mask in MNI152NLin2009aSym" in caplog.text
    assert not [file for file in SHARED if (tmp_path / file).exists()]


def test_masks_on_another_grid_and_no_masks_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"found no lesion mask in MNI152NLin2009aSym.*--mni 2009a"):
        count_lesions([])
    write_masks(tmp_path, affine=np.eye(4))
    with pytest.raises(UserError, match=r"sub-0.*has another grid"):
        count_lesions(sorted(tmp_path.rglob("*.nii.gz")))


@pytest.mark.parametrize(
    ("volumes_ml", "side"),
    [
        ((3, 0), "left"),
        ((0.1, 5), "right"),
        ((96, 4), "left"),
        ((95, 5), "bilateral"),
        ((0, 0), "none"),
        ((np.nan, np.nan), "unknown"),
    ],
)
def test_the_side_of_a_scan(volumes_ml, side):
    assert side_of(*volumes_ml) == side


def test_each_side_has_its_scans_and_volumes():
    volumes = pd.DataFrame({"left_ml": [4, 6, 0, 2], "right_ml": [0, 0.1, 3, 2], "total_ml": [4, 6.1, 3, 4]})
    table = pd.DataFrame(side_rows(volumes)).set_index("side")
    assert table["scans"].to_dict() == {"left": 2, "right": 1, "bilateral": 1, "none": 0, "unknown": 0}
    assert table.loc["left", ["mean_ml", "median_ml"]].tolist() == pytest.approx([5.05, 5.05])
    assert np.isnan(table.loc["none", "mean_ml"])
