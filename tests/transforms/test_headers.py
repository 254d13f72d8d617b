"""Headers of scans: a mask lies on its scan in every viewer, and what a header leaves open is said."""

import gzip
import itertools

import itk
import nibabel as nib
import numpy as np
import pytest

from strokelesion.transforms.conversion import DicomImage
from strokelesion.transforms.headers import find_missing_affine, find_two_affines, mask_header, read_nifti_header
from strokelesion.transforms.reading import load_volume

SHAPE = (12, 14, 10)
COS, SIN = np.cos(0.3), np.sin(0.3)
QFORM = np.array([[-2 * COS, 3 * SIN, 0, 30], [2 * SIN, 3 * COS, 0, -40], [0, 0, 4, -20], [0, 0, 0, 1]])
SFORM = np.array([[-2.0, 0, 0, 5], [0, 3, 0, -40], [0, 0, 4, -20], [0, 0, 0, 1]])


def write(path, qform=QFORM, sform=SFORM, codes=(1, 2), kind=nib.Nifti1Image):
    image = kind(np.zeros(SHAPE, np.int16), qform)
    image.set_qform(qform, codes[0])
    image.set_sform(sform, codes[1])
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return str(path)


def in_itk(path):
    image = itk.imread(str(path))
    return np.concatenate([*itk.array_from_matrix(image.GetDirection()), image.GetOrigin(), image.GetSpacing()])


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("codes", list(itertools.product((0, 1, 4), (0, 2))))
def test_a_mask_lies_on_its_scan_for_nibabel_and_itk(tmp_path, codes, kind):
    scan = write(tmp_path / "scan.nii.gz", codes=codes, kind=kind)
    header = mask_header(read_nifti_header(scan), np.eye(4))
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), header.get_best_affine(), header), tmp_path / "mask.nii.gz")
    there, mask = nib.load(scan), nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(mask.affine, there.affine, atol=1e-5)
    np.testing.assert_allclose(mask.get_qform(), there.get_qform(), atol=1e-5)
    assert (mask.header["qform_code"], mask.header["sform_code"]) == codes
    assert mask.header.get_xyzt_units() == ("mm", "sec")
    np.testing.assert_array_equal(mask.header["pixdim"][:4], there.header["pixdim"][:4])
    if kind is nib.Nifti1Image:  # ITK reads no NIfTI-2
        np.testing.assert_allclose(in_itk(tmp_path / "mask.nii.gz"), in_itk(scan), atol=1e-5)


def test_a_mask_of_another_format_gets_both_forms_of_the_scanner(tmp_path):
    path = tmp_path / "scan.mgz"
    nib.save(nib.MGHImage(np.zeros(SHAPE, np.float32), QFORM), path)
    assert read_nifti_header(path) is None
    header = mask_header(None, QFORM)
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), QFORM, header), tmp_path / "mask.nii")
    mask = nib.load(tmp_path / "mask.nii")
    for form, code in (mask.get_qform(coded=True), mask.get_sform(coded=True)):
        assert code == 1
        np.testing.assert_allclose(form, QFORM, atol=1e-5)
    assert mask.header.get_xyzt_units()[0] == "mm"


def test_a_packed_file_with_a_plain_name_is_read(tmp_path):
    packed = write(tmp_path / "packed.nii.gz")
    (tmp_path / "plain.nii").write_bytes((tmp_path / "packed.nii.gz").read_bytes())
    assert read_nifti_header(tmp_path / "plain.nii") == read_nifti_header(packed)


def test_forms_that_disagree_are_said_in_millimeters(tmp_path):
    moved = QFORM + np.eye(4, k=3) * 30
    assert "30.0 mm" in find_two_affines(read_nifti_header(write(tmp_path / "two.nii", QFORM, moved)))
    assert find_two_affines(read_nifti_header(write(tmp_path / "one.nii", QFORM, QFORM))) == ""
    assert find_two_affines(read_nifti_header(write(tmp_path / "uncoded.nii", QFORM, moved, (0, 2)))) == ""
    broken = read_nifti_header(write(tmp_path / "broken.nii", QFORM, QFORM))
    broken["quatern_b"] = 3
    assert "no rotation" in find_two_affines(broken)


def test_which_side_is_left_is_known_unless_both_codes_are_0_or_the_format_has_none(tmp_path):
    coded, uncoded = (write(tmp_path / f"{code}.nii", codes=(code, 0)) for code in (1, 0))
    assert find_missing_affine(coded, read_nifti_header(coded)) == ""
    assert "which side is left" in find_missing_affine(uncoded, read_nifti_header(uncoded))
    nib.save(nib.Spm99AnalyzeImage(np.zeros(SHAPE, np.int16), np.eye(4)), tmp_path / "old.img")
    assert read_nifti_header(tmp_path / "old.hdr") is None
    assert "Analyze" in find_missing_affine(tmp_path / "old.hdr", None)
    assert find_missing_affine(DicomImage((), "1.2", "", {}), None) == ""


NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 10 14 12\nendian: little\nencoding: raw\n"
DIRECTIONS = "space directions: (1,0,0) (0,2,0) (0,0,3)\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 10 14 12\nElementSpacing = 1 2 3\nElementType = MET_SHORT\n"
LOCAL = "ElementDataFile = LOCAL\n"


@pytest.mark.parametrize(
    ("name", "header", "is_known"),
    [
        ("lps.nrrd", f"{NRRD}space: left-posterior-superior\n{DIRECTIONS}\n", True),
        ("las.nrrd", f"{NRRD}space: LAS\r\n{DIRECTIONS}\r\n", True),
        ("handed.nrrd", f"{NRRD}space: 3D-right-handed\n{DIRECTIONS}\n", False),
        ("dimension.nrrd", f"{NRRD}space dimension: 3\n{DIRECTIONS}\n", False),
        ("spacings.nrrd", f"{NRRD}spacings: 1 2 3\n\n", False),
        ("matrix.mha", f"{META}TransformMatrix = 1 0 0 0 1 0 0 0 1\n{LOCAL}", True),
        ("spacing.mha", META + LOCAL, False),
    ],
)
def test_a_format_that_may_leave_its_axes_open_is_known_by_its_header(tmp_path, name, header, is_known):
    (tmp_path / name).write_bytes(header.encode() + bytes(2 * 10 * 14 * 12))
    assert load_volume(tmp_path / name).shape == (1, 10, 14, 12)
    assert (find_missing_affine(tmp_path / name, None) == "") == is_known


@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
def test_a_freesurfer_volume_without_its_flag_does_not_say_which_side_is_left(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    image = nib.MGHImage(np.zeros(SHAPE, np.float32), QFORM)
    pack = gzip.compress if suffix == ".mgz" else bytes
    for flag, words in ((b"\0\1", ""), (b"\0\0", "which side is left")):
        content = bytearray(image.to_bytes())
        content[28:30] = flag
        path.write_bytes(pack(content))
        found = find_missing_affine(path, None)
        assert words in found
        assert bool(words) == bool(found)
