"""Scans with changed voxels: all others keep the numbers that their file stores."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from strokelesion.transforms.reading import load_volume
from strokelesion.transforms.stored_values import change_voxels

AFFINE = np.array([[-1.5, 0, 0, 20], [0, 0, 2, -30], [0, 1.25, 0, 4], [0, 0, 0, 1.0]])


def stored(name, path):
    """Write the numbers of a type with a scale, and return them."""
    dtype, slope, intercept = np.dtype(name[0]), *name[1:]
    numbers = np.random.default_rng(0).integers(0, 200, (5, 6, 7)).astype(dtype)
    image = nib.Nifti1Image(numbers, AFFINE, nib.Nifti1Header(endianness="><"[dtype.byteorder != ">"]))
    image.set_data_dtype(dtype)
    image.set_qform(AFFINE, 2)
    image.header.set_slope_inter(slope, intercept)
    nib.save(image, path)
    return numbers


@pytest.mark.parametrize(
    "name", [("i2", None, None), ("u1", 0.37, -5.0), (">i2", 2.0, 0.0), ("f4", None, None), ("f8", 1.0, 3.0)]
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_type_scale_and_unchanged_numbers_are_kept(name, ending, tmp_path):
    numbers = stored(name, tmp_path / f"t1{ending}")
    scan = load_volume(tmp_path / f"t1{ending}")
    values = scan.as_tensor().clone()
    values[0, 1, 2, 3], values[0, 0, 0, 0] = 43.2, 1e6
    nib.save(change_voxels(tmp_path / f"t1{ending}", scan, MetaTensor(values, affine=scan.affine)), tmp_path / "new.nii.gz")
    found, before = nib.load(tmp_path / "new.nii.gz"), nib.load(tmp_path / f"t1{ending}")
    is_same = np.ones(numbers.shape, bool)
    is_same[1, 2, 3] = is_same[0, 0, 0] = False
    np.testing.assert_array_equal(found.dataobj.get_unscaled()[is_same], numbers[is_same])
    assert found.get_data_dtype().newbyteorder("=") == before.get_data_dtype().newbyteorder("=")
    assert (found.dataobj.slope, found.dataobj.inter) == (before.dataobj.slope, before.dataobj.inter)
    np.testing.assert_array_equal(found.affine, before.affine)
    assert (found.header["qform_code"], found.header["sform_code"]) == (2, 2)
    assert (
        abs(found.get_fdata()[1, 2, 3] - 43.2) <= (0.5 if found.get_data_dtype().kind in "iu" else 1e-4) * before.dataobj.slope
    )


@pytest.mark.parametrize(("factor", "dtype"), [(1, np.int16), (0.5, np.float32)])
def test_other_formats_become_whole_numbers_if_they_were(factor, dtype, tmp_path):
    values = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7) * factor
    nib.save(nib.MGHImage(values, AFFINE), tmp_path / "t1.mgz")
    scan = load_volume(tmp_path / "t1.mgz")
    changed = MetaTensor(torch.where(scan.as_tensor() == 4, 9.4, scan.as_tensor()), affine=scan.affine)
    found = change_voxels(tmp_path / "t1.mgz", scan, changed)
    assert found.get_data_dtype() == dtype
    np.testing.assert_allclose(found.affine, AFFINE)
    expected = np.where(values == 4, 9 if dtype == np.int16 else np.float32(9.4), values)
    np.testing.assert_array_equal(np.asarray(found.dataobj), expected)
