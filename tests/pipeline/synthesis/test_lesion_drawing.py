"""Lesion masks: measured once, invented where there are none, and drawn as ATLAS's lesions are distributed."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine

from strokelesion.networks import UserError
from strokelesion.pipeline.synthesis import lesion_drawing
from strokelesion.pipeline.synthesis.lesion_drawing import draw_lesions, make_procedural_masks, read_lesions
from strokelesion.pipeline.synthesis.procedural_lesions import parenchyma

# ATLAS R2.1: percentiles of volume (ml), share of scans with more than one component, and the 95th percentile of their number.
ATLAS_ML = {5: 0.14, 25: 1.0, 50: 4.3, 75: 32.0, 95: 136.0}
ATLAS_MULTIPLE = 0.53
ATLAS_MEDIAN_COUNT, ATLAS_P95_COUNT = 2, 8
ATLAS_REST_ML = 0.29
SCANS = 1000


def write_mask(path, mask, voxel_mm=(1.0, 2.0, 3.0), value=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image((mask * value).astype(np.float32), np.diag([*voxel_mm, 1.0])), path)


@pytest.fixture(scope="module")
def procedural(tmp_path_factory):
    """A folder of 120 invented masks, and their table."""
    folder = make_procedural_masks(tmp_path_factory.mktemp("masks"), count=120, seed=1)
    return folder, read_lesions(folder, folder.parent)


def three_parts():
    """A mask of 10 voxels in three pieces; two of its voxels touch by a corner only."""
    mask = np.zeros((7, 8, 9))
    mask[1, 1, 1] = mask[2, 2, 2] = 1
    mask[5, 2:6, 3] = mask[1, 6, 2:6] = 1
    return mask


@pytest.mark.parametrize("value", [1.0, 254.99999994, 1 - 2**-32])
def test_volume_and_components_are_measured_in_milliliters_and_by_corners(tmp_path, value):
    write_mask(tmp_path / "masks" / "p.nii.gz", three_parts(), value=value)
    row = read_lesions(tmp_path / "masks", tmp_path / "cache").iloc[0]
    assert row["volume_ml"] == pytest.approx(10 * 6 / 1000)
    assert row["components"] == 3


def test_masks_are_read_once_and_again_when_one_changes(tmp_path, monkeypatch):
    for name in ("a/1.nii", "b/2.nii.gz"):
        write_mask(tmp_path / name, three_parts())
    read = []
    measure = lesion_drawing.measure
    monkeypatch.setattr(lesion_drawing, "measure", lambda path: read.append(path.name) or measure(path))
    folders = [tmp_path / "a", tmp_path / "b"]
    first = read_lesions(folders, tmp_path / "cache")
    pd.testing.assert_frame_equal(read_lesions(folders, tmp_path / "cache"), first)
    assert sorted(read) == ["1.nii", "2.nii.gz"]
    write_mask(tmp_path / "a/1.nii", three_parts()[:, ::-1][:4])
    assert read_lesions(folders, tmp_path / "cache")["components"].tolist() == [2, 3]


def test_empty_masks_and_folders_without_masks_are_refused(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"found no lesion mask in .*none"):
        read_lesions(tmp_path / "none", tmp_path)
    write_mask(tmp_path / "some" / "full.nii", three_parts())
    write_mask(tmp_path / "some" / "empty.nii", three_parts() * 0)
    with pytest.raises(UserError, match=r"1 lesion masks are empty:\n.*empty\.nii\nExpected"):
        read_lesions(tmp_path / "some", tmp_path)


def test_invented_lesions_cover_the_volumes_of_atlas_and_keep_to_one_side_of_the_brain_each(procedural):
    folder, table = procedural
    for percent, volume_ml in ATLAS_ML.items():
        assert np.percentile(table["volume_ml"], percent) == pytest.approx(volume_ml, rel=0.35)
    brain, _, affine = parenchyma()
    for path in sorted(folder.iterdir())[::7]:
        mask = nib.load(path)
        assert set(np.unique(mask.dataobj)) <= {0, 1}
        points_mm = apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj)))
        assert brain[tuple(np.round(apply_affine(np.linalg.inv(affine), points_mm)).astype(int).T)].all()
        assert (points_mm[:, 0] < 0).all() or (points_mm[:, 0] >= 0).all()
    assert {bool(nib.load(path).affine[0, 3] > 0) for path in folder.iterdir()} == {True, False}


def test_invented_lesions_are_the_same_for_a_seed_and_others_for_another(tmp_path):
    contents = [
        [path.read_bytes() for path in sorted(make_procedural_masks(tmp_path / name, count=2, seed=seed).iterdir())]
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    ]
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_a_drawn_cohort_has_the_volumes_and_components_of_atlas_and_half_of_it_is_flipped(procedural):
    table, rng = procedural[1], np.random.default_rng(0)
    known = table.set_index("path").to_dict("index")
    volumes_ml, counts, rest_ml, flips = [], [], [], []
    for _ in range(SCANS):
        drawn = draw_lesions(table, rng)
        first_ml, *others_ml = (known[one["path"]]["volume_ml"] * one["scale"] ** 3 for one in drawn)
        volumes_ml.append(first_ml + sum(others_ml))
        counts.append(sum(known[one["path"]]["components"] for one in drawn))
        rest_ml += [sum(others_ml)] if others_ml else []
        flips += [one["flip"] for one in drawn]
    for percent, volume_ml in ATLAS_ML.items():
        assert np.percentile(volumes_ml, percent) == pytest.approx(volume_ml, rel=0.35), percent
    assert (np.array(counts) > 1).mean() == pytest.approx(ATLAS_MULTIPLE, abs=0.05)
    assert np.median(counts) == ATLAS_MEDIAN_COUNT
    assert np.percentile(counts, 95) == pytest.approx(ATLAS_P95_COUNT, abs=1.5)
    assert np.median(rest_ml) == pytest.approx(ATLAS_REST_ML, rel=0.35)
    assert np.mean(flips) == pytest.approx(0.5, abs=0.06)
    with pytest.raises(UserError, match="no lesion mask to draw from"):
        draw_lesions(table.iloc[:0], rng)


table_of = st.lists(st.tuples(st.floats(0.02, 400), st.integers(1, 9)), min_size=1, max_size=40)


@settings(max_examples=60)
@given(table_of, st.integers(0, 2**32 - 1))
def test_whatever_the_masks_scales_stay_within_bounds_and_the_draw_repeats(masks, seed):
    table = pd.DataFrame(masks, columns=["volume_ml", "components"])
    table["path"] = [f"{number}.nii" for number in range(len(table))]
    drawn = draw_lesions(table, np.random.default_rng(seed))
    assert drawn == draw_lesions(table, np.random.default_rng(seed))
    for lesion in drawn:
        assert set(lesion) == {"path", "scale", "flip"}
        assert 0.6 <= lesion["scale"] <= 1.5
        assert lesion["path"] in set(table["path"])
