"""Every format gives the same scan: values, affine, and the name that its mask will have."""

import gzip

import itk
import nibabel as nib
import numpy as np
import pytest
from atlas import grid
from dicom_files import write_series
from hypothesis import given
from hypothesis import strategies as st

from strokelesion.networks import UserError
from strokelesion.pipeline.inference.result_names import name_scans
from strokelesion.pipeline.inference.scans import common_folder, find_scans
from strokelesion.transforms import LoadScand
from strokelesion.transforms.loading import load_volume
from strokelesion.transforms.sample_error import SampleError

SHAPE, SPACING_MM = (7, 8, 21), (1.5, 1.25, 2.0)
VALUES = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)
ORIGIN_MM = (5.0, -7.0, 9.0)
LPS = np.diag([-1.0, -1, 1, 1])


def affine():
    matrix = np.diag([*SPACING_MM, 1.0])
    matrix[:3, 3] = ORIGIN_MM
    return LPS @ matrix


def write(folder, kind):
    if kind == "dicom":
        write_series(folder, VALUES, SPACING_MM, ORIGIN_MM)
        return
    if kind in ("mha", "nrrd"):
        image = itk.image_from_array(np.ascontiguousarray(VALUES.T))
        image.SetSpacing(SPACING_MM)
        image.SetOrigin(ORIGIN_MM)
        itk.imwrite(image, str(folder / f"head.{kind}"))
        return
    made = nib.MGHImage if kind == "mgz" else nib.Nifti1Image
    values = VALUES[..., None] if kind == "4d.nii" else VALUES
    nib.save(made(values.astype(np.float32), affine()), folder / f"head.{kind}")


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("nii", "sub-head"),
        ("nii.gz", "sub-head"),
        ("4d.nii", "sub-head4d"),
        ("mgz", "sub-head"),
        ("mha", "sub-head"),
        ("nrrd", "sub-head"),
        ("dicom", "sub-P0011t1mprage"),
    ],
)
def test_a_scan_is_the_same_from_every_format_and_its_results_are_named_after_it(tmp_path, kind, named):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", kind)
    items = find_scans(tmp_path / "in")
    image = LoadScand("image")(items[0])["image"]
    assert image.shape == (1, *SHAPE)
    np.testing.assert_array_equal(image[0].numpy(), VALUES)
    np.testing.assert_allclose(image.affine, affine(), atol=1e-5)
    assert [str(name) for name in name_scans(items, common_folder(items))] == [named]


@pytest.mark.parametrize("shape", [(7, 8, 9, 2), (7, 8)])
def test_what_is_no_single_volume_is_refused(tmp_path, shape):
    nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), grid()[1]), tmp_path / "many.nii")
    with pytest.raises(UserError, match=r"many\.nii has the shape \(7, 8.*expected one 3D volume"):
        LoadScand("image")({"image": str(tmp_path / "many.nii")})


@pytest.mark.parametrize(
    ("affine", "reason"),
    [
        (np.diag([8.0, 8.0, 0.0, 1.0]), "edges of 8 x 8 x 0 mm"),
        (np.array([[8.0, 0, 0, 0], [0, 8, 8, 0], [0, 0, 0, 0], [0, 0, 0, 1]]), "lie in one plane"),
        (np.diag([1e-3, 1e-3, 1e-3, 1.0]), "edges of 0.001 x 0.001 x 0.001 mm; allowed are 0.1 to 10 mm"),
        (np.diag([1.0, 1.0, 20.0, 1.0]), "edges of 1 x 1 x 20 mm"),
    ],
)
@pytest.mark.parametrize("codes", [(2, 0), (1, 1)])
def test_what_is_nowhere_in_space_is_refused_by_name(tmp_path, affine, reason, codes):
    image = nib.Nifti1Image(VALUES, np.eye(4))
    image.header.set_qform(np.eye(4), codes[1])
    whole = bytearray(image.to_bytes())
    whole[252:256] = np.array(codes[::-1], "<i2").tobytes()
    whole[280:328] = affine[:3].astype("<f4").tobytes()
    (tmp_path / "flat.nii").write_bytes(whole)
    with pytest.raises(SampleError, match=reason) as error:
        load_volume(str(tmp_path / "flat.nii"))
    assert str(tmp_path / "flat.nii") in str(error.value)


@given(share=st.floats(0, 0.98), compressed=st.booleans())
def test_a_file_cut_short_anywhere_is_refused_by_name(tmp_path_factory, share, compressed):
    whole = nib.Nifti1Image(VALUES, np.eye(4)).to_bytes()
    whole = gzip.compress(whole) if compressed else whole
    path = tmp_path_factory.mktemp("cut") / f"head.nii{'.gz' * compressed}"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(SampleError, match="cannot be read") as error:
        load_volume(str(path))
    assert error.value.source == str(path)
    assert str(error.value) == f"{path} {error.value.what}. {error.value.advice}"
