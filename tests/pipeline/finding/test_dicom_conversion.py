"""DICOM series become the volumes that were stored, or are refused; images that are no T1 are left out with a reason."""

import re
import shutil

import nibabel as nib
import numpy as np
import pytest
from dicom_files import SECONDARY_CAPTURE, SYNTAXES, write_enhanced, write_series
from monai.transforms import Orientation

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.provenance import scan_sources, sha256_of_scan
from strokelesion.pipeline.derivatives.result_names import name_scans
from strokelesion.pipeline.finding.dicom import find_series, number
from strokelesion.pipeline.finding.scans import common_folder, find_scans
from strokelesion.transforms import LoadScand, conversion
from strokelesion.transforms.sample_error import SampleError

SHAPE, SPACING_MM, ORIGIN_MM = (11, 13, 21), (1.1, 1.2, 2.0), (5.0, -7.0, 9.0)
LPS = np.diag([-1.0, -1, 1, 1])
INTERLEAVED = [*range(1, 21, 2), *range(0, 21, 2)]


def volume(seed=0):
    return np.random.default_rng(seed).integers(1, 1000, SHAPE).astype(np.uint16)


def found(folder):
    """Return the scans of a folder with the last part of their names, and the reasons of what is left out."""
    scans = find_scans(folder)
    return {item["name"].rsplit("/", 1)[1]: item for item in scans}, [reason for _, reason in scans.left_out]


def require_volume(item, values, direction=None, spacing_mm=SPACING_MM):
    """Check that an item loads as the volume that was written, value by value, at its place."""
    image = Orientation("LPS", labels=None)(LoadScand("image")(item)["image"])
    direction = np.eye(3) if direction is None else direction
    np.testing.assert_array_equal(image[0].numpy(), values)
    np.testing.assert_allclose(image.affine[:3, :3], LPS[:3, :3] @ direction @ np.diag(spacing_mm), atol=1e-5)
    np.testing.assert_allclose(image.affine[:3, 3], LPS[:3, :3] @ ORIGIN_MM, atol=1e-5)


def change(**values):
    def edit(data):
        for tag, value in values.items():
            setattr(data, tag, value)

    return edit


def in_two_folders(folder):
    write_series(folder / "a", volume(), keep=range(10))
    write_series(folder / "b", volume(), keep=range(10, 21))


def doubled(folder):
    write_series(folder / "a", volume())
    shutil.copytree(folder / "a", folder / "b")


def magnitude_and_phase(folder):
    write_series(folder, volume())
    write_series(folder, volume(1), prefix="phase", edit=change(ImageType=["ORIGINAL", "PRIMARY", "P", "ND"]))


def two_contrasts(folder):
    write_series(folder, volume())
    write_series(folder, volume(1), prefix="t2", echo_time_ms=95)


def with_localizer(folder):
    write_series(folder, volume())
    write_series(folder, volume(1)[:9, :9, :3], prefix="localizer", direction=np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]))


def from_the_crown(folder):
    write_series(folder, volume(), edit=lambda data: setattr(data, "InstanceNumber", 22 - data.InstanceNumber))


def without_preamble(folder):
    for path in write_series(folder, volume()):
        path.write_bytes(path.read_bytes()[132:])


def secondary_capture(folder):
    def edit(data):
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE

    write_series(folder, volume(), edit=edit)


GOOD = {
    "plain": lambda folder: write_series(folder, volume()),
    "in two folders": in_two_folders,
    "doubled": doubled,
    "magnitude and phase": magnitude_and_phase,
    "two contrasts": two_contrasts,
    "with localizer": with_localizer,
    "from the crown": from_the_crown,
    "secondary capture": secondary_capture,
    "frames in order": lambda folder: write_enhanced(folder, volume(), range(21)),
    "frames interleaved": lambda folder: write_enhanced(folder, volume(), INTERLEAVED, edit=change(SpacingBetweenSlices=2.0)),
    "frames downwards": lambda folder: write_enhanced(folder, volume(), range(20, -1, -1)),
    **{syntax: lambda folder, syntax=syntax: write_series(folder, volume(), syntax=syntax) for syntax in SYNTAXES},
}


@pytest.mark.parametrize("write", GOOD.values(), ids=GOOD)
def test_a_good_series_is_one_scan_with_the_values_and_the_place_that_were_written(tmp_path, write):
    write(tmp_path / "in")
    (item,) = find_scans(tmp_path / "in")
    require_volume(item, volume())
    assert item["image"].doubts == ()


def test_a_series_is_converted_once_and_again_only_if_its_files_change(tmp_path, monkeypatch):
    converted = []
    run = conversion.run_dcm2niix
    monkeypatch.setattr(conversion, "run_dcm2niix", lambda files, folder: converted.append(folder) or run(files, folder))
    files = write_series(tmp_path / "in", volume())
    (item,) = find_scans(tmp_path / "in")
    require_volume(item, volume())
    assert len(converted) == 1
    assert not converted[0].exists()
    find_scans(tmp_path / "in")
    for new in write_series(tmp_path / "new", volume(1)):
        shutil.copy(new, files[0].parent / new.name)
    require_volume(item, volume(1))
    assert len(converted) == 3
    conversion.remove_kept()
    assert not any(folder.exists() for folder in converted)


def test_an_oblique_series_with_gaps_keeps_its_axes(tmp_path):
    cos, sin = np.cos(0.3), np.sin(0.3)
    direction = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    write_series(tmp_path, volume()[..., :19], (1.1, 1.2, 7.0), direction=direction, edit=change(SliceThickness=5.0))
    (item,) = find_scans(tmp_path)
    require_volume(item, volume()[..., :19], direction, (1.1, 1.2, 7.0))


def test_every_echo_is_a_scan(tmp_path):
    for echo in (1, 2):
        write_series(tmp_path, volume(echo), prefix=f"e{echo}", echo_time_ms=2.5 * echo, edit=change(EchoNumbers=echo))
    scans, _ = found(tmp_path)
    assert list(scans) == ["P001_1_t1-mprage_e1", "P001_1_t1-mprage_e2"]
    for echo, item in enumerate(scans.values(), start=1):
        require_volume(item, volume(echo))
        assert item["image"].sidecar["EchoTime"] == pytest.approx(0.0025 * echo)
    assert len({sha256_of_scan(item) for item in scans.values()}) == 2


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda folder: write_series(folder, volume(), keep=[*range(8), *range(11, 21)]), "Interslice distance varies"),
        (lambda folder: write_series(folder, volume(), edit=lambda data: data.pop("ImageOrientationPatient")), "0020,0037"),
        (
            lambda folder: write_series(
                folder, volume(), edit=lambda data: setattr(data, "StudyTime", f"1200{data.InstanceNumber // 12:02d}")
            ),
            "dcm2niix makes 2 pieces of it: Slices not stacked: Study Date/Time",
        ),
        (lambda folder: write_enhanced(folder, volume(), INTERLEAVED), "frames are 2 to 2 mm apart, and dcm2niix says 1.9 mm"),
        (lambda folder: write_enhanced(folder, volume(), [*range(8), *range(11, 21)]), "frames are 2 to 8 mm apart"),
        (without_preamble, "dcm2niix finds no image in it"),
    ],
    ids=["missing slices", "no orientation", "in pieces", "frames in another order", "missing frames", "without preamble"],
)
def test_a_series_that_is_no_even_volume_fails_with_the_words_of_dcm2niix(tmp_path, write, reason):
    write(tmp_path / "in")
    (item,) = find_scans(tmp_path / "in")
    with pytest.raises(SampleError, match=f"P001_1_t1-mprage cannot be read: .*{reason}"):
        LoadScand("image")(item)


def test_copies_that_differ_are_not_dropped_silently(tmp_path):
    write_series(tmp_path, volume())
    write_series(tmp_path, volume(1), prefix="other")
    with pytest.raises(UserError, match=r"found no scan(?s:.*): 2 volumes, not one"):
        find_scans(tmp_path)


def test_a_series_without_positions_is_taken_with_a_doubt(tmp_path):
    write_series(tmp_path, volume(), edit=lambda data: data.pop("ImagePositionPatient"))
    (item,) = find_scans(tmp_path)
    assert "please check whether slices are flipped" in item["image"].doubts[0]
    spacing_mm = np.linalg.norm(LoadScand("image")(item)["image"].affine[:3, :3], axis=0)
    np.testing.assert_allclose(spacing_mm, SPACING_MM, atol=1e-5)


@pytest.mark.parametrize(
    "second",
    [{"patient": "MÖLLER"}, {"patient": "MÜLLER"}, {"patient": "M LLER", "series": 9}],
    ids=["other patient", "same patient", "same name"],
)
def test_two_series_stay_two_whatever_their_names(tmp_path, second):
    latin = change(SpecificCharacterSet="ISO_IR 100")
    write_series(tmp_path, volume(0), patient="MÜLLER", prefix="a", edit=latin)
    write_series(tmp_path, volume(1), **{"series": 2, "prefix": "b", "edit": latin, **second})
    scans = find_scans(tmp_path)
    names = {str(name) for name in name_scans(scans, common_folder(scans))}
    assert len(names) == len({item["name"] for item in scans}) == 2
    seen = [LoadScand("image")(item)["image"].numpy().sum() for item in scans]
    assert sorted(seen) == sorted(volume(seed).sum() for seed in (0, 1))
    # A name depends on the series alone, not on its order among the others.
    assert names == {str(name) for name in name_scans(scans[::-1], common_folder(scans))}


def test_what_is_no_t1_volume_is_left_out_with_a_reason(tmp_path):
    write_series(tmp_path / "a", volume(), number=3)
    write_series(tmp_path / "a", volume(), number=5, description="t2_flair", echo_time_ms=90)
    write_series(tmp_path / "a", volume()[..., :3], number=1, description="localizer")
    write_series(tmp_path / "deep/b", volume(), number=7, patient="P 002", modality="CT")
    (tmp_path / "deep/notes.txt").write_text("no DICOM")
    scans, _ = found(tmp_path)
    assert list(scans) == ["P001_3_t1-mprage"]
    left_out = "\n".join(map(": ".join, find_scans(tmp_path).left_out))
    for reason in ("5_t2-flair: echo time 90 ms", "1_localizer: 3 slices", "b/P-002_7_t1-mprage: modality CT, not MR"):
        assert re.search(reason, left_out), reason
    with pytest.raises(UserError, match=r"found no scan(?s:.*)1 files or folders are left out(?s:.*)modality CT"):
        find_scans(tmp_path / "deep")


def test_damaged_files_are_named_and_do_not_stop_the_others(tmp_path):
    (tmp_path / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0")
    assert find_series(tmp_path.iterdir()) == ([], [(str(tmp_path / "cut.dcm"), "cannot be read as DICOM")])
    for syntax in (None, "deflated", "RLE", "JPEG 2000"):
        cut = write_series(tmp_path / f"{syntax}", volume(), number=1, series=f"1.{len(f'{syntax}')}", syntax=syntax)[-1]
        cut.write_bytes(cut.read_bytes()[:-150])
        (item,) = find_scans(tmp_path / f"{syntax}")
        assert item["image"].doubts == ("1 files beside it: cannot be read as DICOM",)
        require_volume(item, volume()[..., :20])


def test_a_slice_stands_for_its_series(tmp_path):
    write_series(tmp_path / "in", volume(), number=1)
    write_series(tmp_path / "in", volume(1), number=2)
    for named in ("in/1_0004.dcm", "in/1_*.dcm"):
        (item,) = find_scans(tmp_path / named)
        require_volume(item, volume())
    assert len(find_scans(tmp_path / "in/*.dcm")) == 2


def test_sources_are_folders_and_the_hash_is_of_the_content(tmp_path):
    in_two_folders(tmp_path)
    (item,) = find_scans(tmp_path)
    assert scan_sources(item) == [str(tmp_path / "a"), str(tmp_path / "b")]
    before = sha256_of_scan(item)
    with open(tmp_path / "b/1_0015.dcm", "ab") as file:
        file.write(b"\0\0")
    assert sha256_of_scan(item) != before


def test_series_beside_images_are_mentioned_and_taken_when_named(tmp_path):
    write_series(tmp_path / "P001/dicom", volume())
    (tmp_path / "P002").mkdir()
    nib.save(nib.Nifti1Image(volume(), np.eye(4)), tmp_path / "P002/t1.nii.gz")
    scans = find_scans(tmp_path)
    assert [item["image"] for item in scans] == [str(tmp_path / "P002/t1.nii.gz")]
    advice = "21 DICOM files beside other images; --take all takes them"
    assert scans.left_out == [(str(tmp_path / "P001/dicom"), advice)]
    assert len(find_scans(tmp_path / "P001/dicom")) == 1
    both = find_scans(tmp_path, take="all")
    assert [item.get("name") is None for item in both] == [True, False]
    assert both.left_out == []


@pytest.mark.parametrize(("text", "value"), [("3.2", 3.2), ("2.9\\5.1", 2.9), ("", 0), ("?", 0), (0.005, 0.005), (None, 0)])
def test_numbers_of_headers(text, value):
    assert number(text) == value
