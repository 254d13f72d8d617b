"""The phantom: layout of ATLAS R1.1, the same bytes again, lesions that are where and what their masks say."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts import phantom
from strokelesion.pipeline.cohorts.phantom import MASK_SCALE, METADATA, write_phantom
from strokelesion.pipeline.cohorts.phantom_anatomy import VOXEL_SIZES_MM, Stroke, grid, render
from strokelesion.pipeline.cohorts.survey import read_cohort

PARAMETERS = {"subjects": 4, "sites": 3, "voxel_mm": 4.0, "seed": 5}
SESSIONS = ["Site1/099001/t01", "Site1/099004/t01", "Site2/099002/t01", "Site2/099002/t02", "Site3/099003/t02"]
COLUMNS = [
    "INDI Site ID",
    "INDI Subject ID",
    "Session",
    "# Strokes LH Cortical",
    "# Strokes LH subcortical",
    "# Strokes RH Cortical",
    "# Strokes RH subcortical",
    "Other Location",
    "Stroke type",
    "Primary Stroke Location",
    "Primary Stroke Location Hemisphere",
    "Vascular territory",
    "PVH",
    "DWMH",
    "Notes",
]
LEFT_CORTICAL = Stroke((-45, 20, 22), (0.8, 1.1, 1.1), volume_ml=40, darkness=1.0, rim_mm=2.0)
RIGHT_LACUNE = Stroke((26, 2, 6), (1, 1, 1), volume_ml=1, darkness=0.6, rim_mm=0.5)
LEFT_CEREBELLAR = Stroke((-26, -64, -42), (1.1, 1.1, 0.8), volume_ml=8, darkness=0.2, rim_mm=1.0)
STROKES = [LEFT_CORTICAL, RIGHT_LACUNE, LEFT_CEREBELLAR]


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("phantom"), **PARAMETERS)


@pytest.fixture(scope="module")
def scan():
    return render_again(STROKES)


def render_again(strokes):
    """The same subject in the same scanner, with other lesions."""
    return render(strokes, 4.0, 0.9, subject=np.random.default_rng(1), scan=np.random.default_rng(2))


def files(release):
    return {str(path.relative_to(release)): path.read_bytes() for path in release.rglob("*") if path.is_file()}


def masks(folder):
    """Main lesion first, by the robust rule for all three codings."""
    loaded = [nib.load(path).get_fdata() for path in sorted(folder.glob("*_LesionSmooth*"), key=lambda p: (len(p.name), p))]
    return [mask > 0.5 * mask.max() for mask in loaded]


def t1w(folder):
    (path,) = folder.glob("*_t1w_deface_stx.nii.gz")
    return nib.load(path)


def test_every_file_has_its_name_of_r1_1(release):
    assert sorted(str(path.relative_to(release)) for path in release.glob("*/*/*")) == SESSIONS
    for session in SESSIONS:
        subject = session.split("/")[1]
        found = {path.name for path in (release / session).iterdir()}
        subs = {f"{subject}_LesionSmooth_{index}_stx.nii.gz" for index in range(1, len(found) - 1)}
        assert found == {f"{subject}_t1w_deface_stx.nii.gz", f"{subject}_LesionSmooth_stx.nii.gz"} | subs


def test_table_has_the_columns_of_r1_1_and_one_row_per_scan(release):
    table = pd.read_csv(release / METADATA)
    assert list(table.columns) == COLUMNS
    assert pd.api.types.is_integer_dtype(table["INDI Subject ID"])
    rows = zip(table["INDI Site ID"], table["INDI Subject ID"], table["Session"], strict=True)
    assert sorted(f"{site}/{subject:06d}/{session[1:]}" for site, subject, session in rows) == SESSIONS
    assert set(table["Session"]) == {" t01", " t02"}


def test_cohort_is_read_as_r1_1(release):
    records = read_cohort(release)
    assert [(record["site"], record["subject"], record["session"]) for record in records] == [
        ("Site1", "099001", "t01"),
        ("Site2", "099002", "t01"),
        ("Site2", "099002", "t02"),
        ("Site3", "099003", "t02"),
        ("Site1", "099004", "t01"),
    ]
    assert {record["release"] for record in records} == {"R1.1"}
    assert all(record["metadata"]["Notes"] == "synthetic phantom" for record in records)
    for record in records:
        assert len(record.get("sub_masks", [])) == len(masks(Path(record["image"]).parent)) - 1


def test_all_three_codings_of_masks_occur(release):
    subjects = ("Site1/099001/t01", "Site2/099002/t01", "Site3/099003/t02")
    levels = [
        set(np.unique(nib.load(next((release / subject).glob("*_LesionSmooth_stx*"))).get_fdata() / MASK_SCALE))
        for subject in subjects
    ]
    assert levels == [{0, 255}, {0, 1}, {0, 1, 254, 255}]


@given(mask=arrays(bool, (5, 4, 3)).filter(np.any), kind=st.integers(0, 2))
def test_half_of_the_maximum_recovers_a_mask_from_every_coding(mask, kind):
    coded = phantom._coded(mask, kind)
    np.testing.assert_array_equal(coded > 0.5 * coded.max(), mask)
    assert not np.any(coded == 1)  # the integer cast that loses lesions must be possible


def test_scans_are_float32_up_to_100_in_black_air_and_say_that_they_are_synthetic(release):
    for session in SESSIONS:
        image = t1w(release / session)
        intensities = image.get_fdata()
        assert image.get_data_dtype() == np.float32
        assert 30 < intensities.max() <= 100
        assert intensities.min() == 0
        assert not intensities[0].any()
        assert not intensities[:, :, -1].any()
        assert b"synthetic" in image.header["descrip"].item()


def test_grid_of_one_millimeter_is_that_of_r1_1():
    shape, affine = grid(1.0)
    assert shape == (197, 233, 189)
    np.testing.assert_array_equal(affine, [[1, 0, 0, -98], [0, 1, 0, -134], [0, 0, 1, -72], [0, 0, 0, 1]])


@pytest.mark.parametrize("voxel_mm", VOXEL_SIZES_MM)
def test_every_voxel_size_covers_the_same_field(voxel_mm):
    shape, affine = grid(voxel_mm)
    np.testing.assert_array_equal(affine @ [0, 0, 0, 1], [-98, -134, -72, 1])
    np.testing.assert_array_equal(affine @ [*np.subtract(shape, 1), 1], [98, 98, 116, 1])


def test_files_have_the_grid_that_was_asked_for(release):
    shape, affine = grid(PARAMETERS["voxel_mm"])
    for path in release.rglob("*.nii.gz"):
        image = nib.load(path)
        assert image.shape == shape
        np.testing.assert_array_equal(image.affine, affine)
        assert (image.header["sform_code"], image.header["qform_code"]) == (4, 4)


def test_same_seed_gives_the_same_bytes_whatever_the_number_of_subjects(release, tmp_path):
    smaller = files(write_phantom(tmp_path, **PARAMETERS | {"subjects": 2}))
    larger = files(release)
    scans = [name for name in smaller if name != METADATA]
    assert {name.split("/")[1] for name in scans} == {"099001", "099002"}
    assert all(smaller[name] == larger[name] for name in scans)
    assert larger[METADATA].startswith(smaller[METADATA])


def test_another_seed_gives_other_heads(release, tmp_path):
    other = write_phantom(tmp_path, **PARAMETERS | {"subjects": 1, "seed": 6})
    same, different = (t1w(folder / SESSIONS[0]).get_fdata() for folder in (release, other))
    assert np.mean(same != different) > 0.2


def test_interrupted_run_is_continued_to_the_same_bytes(release, tmp_path, monkeypatch):
    saved = []
    save = phantom._save
    in_the_second_scan = len(list((release / SESSIONS[0]).iterdir())) + 1

    def save_until_interrupted(array, affine, path):
        if len(saved) == in_the_second_scan:
            raise KeyboardInterrupt
        saved.append(path)
        save(array, affine, path)

    monkeypatch.setattr(phantom, "_save", save_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path, **PARAMETERS)
    half = files(tmp_path / release.name)
    assert 0 < len(half) < len(saved)
    assert half.items() <= files(release).items()
    monkeypatch.undo()
    assert files(write_phantom(tmp_path, **PARAMETERS)) == files(release)


def test_leftovers_of_a_killed_run_do_no_harm(release, tmp_path):
    parameters = PARAMETERS | {"subjects": 1}
    folder = write_phantom(tmp_path, **parameters)
    (folder / SESSIONS[0]).rename(tmp_path / ".unfinished-0")
    next((tmp_path / ".unfinished-0").iterdir()).unlink()
    (folder / METADATA).unlink()
    again = files(write_phantom(tmp_path, **parameters))
    assert set(again) - {METADATA} == {name for name in files(release) if name.startswith(SESSIONS[0])}
    assert all(again[name] == content for name, content in files(release).items() if name in again and name != METADATA)


def test_scans_that_are_there_are_left_alone(tmp_path):
    parameters = PARAMETERS | {"subjects": 1}
    folder = write_phantom(tmp_path, **parameters) / SESSIONS[0]
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_phantom(tmp_path, **parameters)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written


@pytest.mark.parametrize("change", [{"subjects": 5}, {"sites": 2}, {"voxel_mm": 2.0}, {"seed": 6}])
def test_folder_of_other_parameters_is_refused(release, change):
    before = files(release.parent)
    with pytest.raises(UserError, match=r"phantom\.json records .* another folder"):
        write_phantom(release.parent, **PARAMETERS | change)
    assert files(release.parent) == before


def test_older_version_is_refused(tmp_path):
    (tmp_path / "phantom.json").write_text(json.dumps({"version": 0} | PARAMETERS))
    with pytest.raises(UserError, match="'version': 0"):
        write_phantom(tmp_path, **PARAMETERS)


def test_release_that_is_no_phantom_is_refused(tmp_path):
    (tmp_path / "ATLAS_R1.1").mkdir()
    with pytest.raises(UserError, match="may be real"):
        write_phantom(tmp_path, **PARAMETERS)
    assert not files(tmp_path)


@pytest.mark.parametrize(
    "change", [{"subjects": 0}, {"subjects": 221}, {"sites": 0}, {"sites": 10}, {"voxel_mm": 3.0}, {"seed": -1}]
)
def test_parameter_out_of_range_is_named_before_anything_is_written(tmp_path, change):
    (name,) = change
    with pytest.raises(UserError, match=f"{name} is {change[name]}"):
        write_phantom(tmp_path / "new", **PARAMETERS | change)
    assert not (tmp_path / "new").exists()


def test_masks_of_a_scan_never_overlap_and_lie_in_the_head(release):
    for session in SESSIONS:
        lesions = masks(release / session)
        assert np.sum(lesions, axis=0).max() == 1
        assert t1w(release / session).get_fdata()[np.any(lesions, axis=0)].min() > 0


def test_second_session_shows_the_same_lesion_grown(release):
    first, second = (masks(release / f"Site2/099002/{session}") for session in ("t01", "t02"))
    assert len(first) == len(second)
    assert second[0].sum() == pytest.approx(1.1 * first[0].sum(), rel=0.02)
    assert not np.any(first[0] & ~second[0])


@pytest.mark.parametrize("index", range(len(STROKES)))
def test_lesion_has_its_volume_and_its_side(scan, index):
    _, lesions = scan
    assert lesions[index].sum() * 0.064 == pytest.approx(STROKES[index].volume_ml, abs=0.064)
    x_mm = -98 + 4 * np.argwhere(lesions[index])[:, 0]
    assert x_mm.mean() * STROKES[index].center_mm[0] > 0


@pytest.mark.parametrize("index", range(len(STROKES)))
def test_lesion_is_near_the_place_it_was_given(scan, index):
    _, lesions = scan
    center_mm = np.argwhere(lesions[index]).mean(axis=0) * 4 + [-98, -134, -72]
    assert np.linalg.norm(center_mm - STROKES[index].center_mm) < 20


def test_lesions_darken_the_same_head_and_nothing_else(scan):
    diseased, lesions = scan
    healthy, none = render_again([])
    assert none == []
    far_mm = distance_transform_edt(~np.any(lesions, axis=0), 4.0)
    np.testing.assert_array_equal(diseased[far_mm > 12], healthy[far_mm > 12])
    for lesion in lesions:
        assert np.median(diseased[lesion]) < 0.85 * np.median(healthy[lesion])


def test_darkness_decides_how_far_a_lesion_is_from_fluid():
    levels = []
    for darkness in (0.2, 1.0):
        stroke = Stroke(LEFT_CORTICAL.center_mm, (1, 1, 1), volume_ml=40, darkness=darkness, rim_mm=1.0)
        image, (mask,) = render_again([stroke])
        levels.append(np.median(image[mask]))
    assert levels[1] < 0.8 * levels[0]


@settings(max_examples=200, deadline=None)
@given(number=st.integers(0, 219), sites=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_every_subject_is_planned_within_the_stated_ranges(number, sites, seed):
    subject = phantom._subject(number, sites, seed)
    main, *subs = subject.infarcts
    assert 1 <= subject.site <= sites
    assert main.territory.least_ml <= main.stroke.volume_ml <= main.territory.most_ml
    assert 5 <= main.stroke.volume_ml <= 140
    assert len(subs) <= 3
    assert all(0.05 <= sub.stroke.volume_ml <= 1 for sub in subs)
    assert all((infarct.side == "Right") == (infarct.stroke.center_mm[0] > 0) for infarct in subject.infarcts)


def test_volumes_and_sub_lesions_spread_as_stated():
    cohort = [phantom._subject(number, 9, seed=0) for number in range(220)]
    volumes_ml = [subject.infarcts[0].stroke.volume_ml for subject in cohort]
    assert 10 < np.median(volumes_ml) < 20
    assert np.quantile(volumes_ml, 0.05) < 6
    assert np.quantile(volumes_ml, 0.95) > 50
    assert 0.35 < np.mean([len(subject.infarcts) > 1 for subject in cohort]) < 0.65
