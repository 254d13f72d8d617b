"""The phantom: layout of ATLAS R1.1, the same bytes again, lesions that are where and what their masks say."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from atlas import INDI_COLUMNS
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from phantom_scan import INFARCT, phantom_scan
from scipy.ndimage import distance_transform_edt

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.survey import read_cohort
from strokelesion.pipeline.synthesis import phantom
from strokelesion.pipeline.synthesis.phantom import MASK_SCALE, METADATA, code_mask, write_phantom
from strokelesion.transforms.synthesis.head_placement import canvas_affine

PARAMETERS = {"subjects": 4, "sites": 3, "voxel_mm": 4.0, "seed": 5}
SESSIONS = ["Site1/099001/t01", "Site1/099004/t01", "Site2/099002/t01", "Site2/099002/t02", "Site3/099003/t02"]
RIGHT_LACUNE = INFARCT._replace(center_mm=(26, 2, 6), volume_ml=1)
LEFT_CEREBELLAR = INFARCT._replace(center_mm=(-26, -64, -42), volume_ml=8)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("phantom"), **PARAMETERS)


def files(release):
    return {str(path.relative_to(release)): path.read_bytes() for path in release.rglob("*") if path.is_file()}


def masks(session):
    """Main lesion first, by the robust rule for all three codings."""
    loaded = [nib.load(path).get_fdata() for path in sorted(session.glob("*Lesion*"), key=lambda path: (len(path.name), path))]
    return [mask > 0.5 * mask.max() for mask in loaded]


def test_cohort_is_read_as_r1_1_with_its_table(release):
    assert sorted(str(path.relative_to(release)) for path in release.glob("*/*/*")) == SESSIONS
    records = read_cohort(release)
    assert sorted(f"{record['site']}/{record['subject']}/{record['session']}" for record in records) == SESSIONS
    assert {(record["release"], record["metadata"]["Notes"]) for record in records} == {("R1.1", "synthetic phantom")}
    for record in records:
        assert len(record.get("sub_masks", [])) == len(masks(Path(record["image"]).parent)) - 1
    table = pd.read_csv(release / METADATA)
    assert list(table.columns) == INDI_COLUMNS
    assert set(table["Session"]) == {" t01", " t02"}


def test_all_three_codings_of_masks_occur(release):
    found = [next((release / SESSIONS[index]).glob("*Smooth_stx*")) for index in (0, 2, 4)]
    levels = [set(np.unique(nib.load(path).get_fdata() / MASK_SCALE)) for path in found]
    assert levels == [{0, 255}, {0, 1}, {0, 1, 254, 255}]


@given(mask=arrays(bool, (5, 4, 3)).filter(np.any), kind=st.integers(0, 2))
def test_half_of_the_maximum_recovers_a_mask_from_every_coding(mask, kind):
    coded = code_mask(mask, kind)
    np.testing.assert_array_equal(coded > 0.5 * coded.max(), mask)
    assert not np.any(coded == 1)  # the integer cast that loses lesions must be possible


def test_scans_are_float32_up_to_100_in_black_air_on_the_grid_asked_for(release):
    for path in release.rglob("*.nii.gz"):
        image = nib.load(path)
        assert image.shape == (49, 58, 47)
        np.testing.assert_array_equal(image.affine, canvas_affine((197, 233, 189), 4.0))
        assert (image.header["sform_code"], image.header["qform_code"]) == (4, 4)
        assert b"synthetic" in image.header["descrip"].item()
        if "t1w" in path.name:
            intensities = image.get_fdata()
            assert image.get_data_dtype() == np.float32
            assert 30 < intensities.max() <= 100
            assert intensities.min() == np.median(intensities[0]) == 0
            assert intensities[np.any(masks(path.parent), axis=0)].min() > 0


def test_same_seed_gives_the_same_bytes_whatever_the_number_of_subjects(release, tmp_path):
    smaller, larger = files(write_phantom(tmp_path, **PARAMETERS | {"subjects": 2})), files(release)
    assert {name.split("/")[1] for name in smaller if name != METADATA} == {"099001", "099002"}
    assert all(larger[name].startswith(content) for name, content in smaller.items())
    assert all(smaller[name] == larger[name] for name in smaller if name != METADATA)


def test_interrupted_run_is_continued_to_the_same_bytes_and_scans_that_are_there_are_left_alone(release, tmp_path, monkeypatch):
    def save_masks_only(array, affine, path):
        if "t1w" in path.name and "099001" not in path.name:
            raise KeyboardInterrupt
        save(array, affine, path)

    save = phantom.save
    monkeypatch.setattr(phantom, "save", save_masks_only)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path, **PARAMETERS)
    half = tmp_path / release.name
    assert [path.name for path in half.rglob("*t1w*")] == ["099001_t1w_deface_stx.nii.gz"]
    monkeypatch.undo()
    written_ns = {path: path.stat().st_mtime_ns for path in (half / SESSIONS[0]).iterdir()}
    assert files(write_phantom(tmp_path, **PARAMETERS)) == files(release)
    assert {path: path.stat().st_mtime_ns for path in written_ns} == written_ns


@pytest.mark.parametrize("change", [{"subjects": 5}, {"sites": 2}, {"voxel_mm": 2.0}, {"seed": 6}])
def test_folder_of_other_parameters_is_refused(release, change):
    with pytest.raises(UserError, match=r"phantom\.json records .*'version'.* another folder"):
        write_phantom(release.parent, **PARAMETERS | change)


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


def test_lesions_have_their_places_and_about_their_volumes_and_darken_the_head():
    planned = (INFARCT, RIGHT_LACUNE, LEFT_CEREBELLAR)
    ill, healthy = phantom_scan(4.0, planned), phantom_scan(4.0, (RIGHT_LACUNE,))
    affine, numbers = ill["image"].affine.numpy(), ill["lesions"][0].numpy()
    for number, infarct in enumerate(planned, start=1):
        found_mm = np.argwhere(numbers == number) @ affine[:3, :3] + affine[:3, 3]
        assert np.linalg.norm(found_mm.mean(axis=0) - infarct.center_mm) < 20
        assert len(found_mm) * 0.064 == pytest.approx(infarct.volume_ml, rel=0.5)
    for number in (1, 3):
        before, after = (sample["image"][0].numpy()[numbers == number] for sample in (healthy, ill))
        assert np.median(after) < 0.7 * np.median(before)
    far = distance_transform_edt(numbers == 0, 4.0) > 40
    assert np.corrcoef(ill["image"][0].numpy()[far], healthy["image"][0].numpy()[far])[0, 1] > 0.9


def test_second_session_shows_the_same_head_and_the_lesion_grown():
    first, second = (phantom_scan(2.0, session=session) for session in ("t01", "t02"))
    before, after = (float((sample["lesions"] > 0).sum()) for sample in (first, second))
    assert after == pytest.approx(1.1 * before, rel=0.05)
    assert (first["tissues"] == second["tissues"]).float().mean() > 0.99
    assert (first["image"] != second["image"]).float().mean() > 0.1


def test_main_lesions_too_small_for_a_voxel_are_shown_all_the_same():
    assert (phantom_scan(4.0, (INFARCT._replace(volume_ml=0.03),))["lesions"] == 1).any()


def test_each_site_has_its_own_scanner():
    one, same, other = (phantom_scan(4.0, scanner=site)["image"] for site in (1, 1, 2))
    assert (one == same).all()
    assert abs(float(one[one > 0].median() / other[other > 0].median()) - 1) > 0.02
