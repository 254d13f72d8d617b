"""Every format gives the same scan, and what is damaged or no scan is refused in words before memory is taken."""

import gzip
import resource

import itk
import nibabel as nib
import numpy as np
import pytest
from atlas import grid
from dicom_files import write_series
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import Orientation

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.result_names import name_scans
from strokelesion.pipeline.finding.scans import common_folder, find_scans
from strokelesion.transforms import LoadScand
from strokelesion.transforms.reading import MOST_VOXELS, load_volume
from strokelesion.transforms.sample_error import SampleError

SHAPE, SPACING_MM = (11, 13, 21), (1.5, 1.25, 2.0)
VALUES = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)
ORIGIN_MM = (5.0, -7.0, 9.0)
HEAD_SHAPE = (7, 8, 9)
SIZE_OFFSET = 42  # of the first axis in a NIfTI header
MOST_BYTES = 2**28
METAIMAGE = (
    "ObjectType = Image\nNDims = {}\nBinaryData = True\nElementSpacing = {}\nDimSize = {}\nElementType = {}\n"
    "ElementDataFile = {}\n"
)
NRRD = "NRRD0004\ntype: {}\ndimension: 3\nsizes: {}\nencoding: raw\n{}"


AFFINE = np.diag([-1.0, -1, 1, 1]) @ np.column_stack([np.diag([*SPACING_MM, 0])[:, :3], (*ORIGIN_MM, 1)])


def write(folder, kind):
    if kind == "dicom":
        write_series(folder, VALUES, SPACING_MM, ORIGIN_MM)
        return
    if kind in ("mha", "nrrd", "nhdr"):
        image = itk.image_from_array(np.ascontiguousarray(VALUES.T))
        image.SetSpacing(SPACING_MM)
        image.SetOrigin(ORIGIN_MM)
        itk.imwrite(image, str(folder / f"head.{kind}"))
        return
    made = nib.MGHImage if kind in ("mgz", "mgh") else nib.Nifti1Image
    values = VALUES[..., None] if kind == "4d.nii" else VALUES
    nib.save(made(values.astype(np.float32), AFFINE), folder / f"head.{kind}")


NAMES = {"4d.nii": "sub-head4d", "dicom": "sub-P0011t1mprage"}


# nibabel leaves an .mgh open until it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["nii", "nii.gz", "4d.nii", "mgz", "mgh", "mha", "nrrd", "nhdr", "dicom"])
def test_a_scan_is_the_same_from_every_format_and_its_results_are_named_after_it(tmp_path, kind):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", kind)
    items = find_scans(tmp_path / "in")
    image = Orientation("LPS", labels=None)(LoadScand("image")(items[0])["image"])  # dcm2niix turns the rows
    assert image.shape == (1, *SHAPE)
    np.testing.assert_array_equal(image[0].numpy(), VALUES)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    assert [str(name) for name in name_scans(items, common_folder(items))] == [NAMES.get(kind, "sub-head")]


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


@pytest.fixture
def head(tmp_path):
    """Write a small NIfTI file with a change to its image; returns the path."""

    def write(name="head.nii", values=None, affine=None, change=None):
        values = np.arange(np.prod(HEAD_SHAPE), dtype=np.int16).reshape(HEAD_SHAPE) if values is None else values
        image = nib.Nifti1Image(values, np.diag([1.0, 2, 3, 1]) if affine is None else affine)
        if change is not None:
            change(image.header)
            image = nib.Nifti1Image(values, None, image.header)  # else the affine would be written over the change
        nib.save(image, tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("size", "words"), [(30_000, f"allowed are 1 to {MOST_VOXELS}"), (900, "more than can be in a file of")]
)
@pytest.mark.parametrize("name", ["head.nii", "head.nii.gz", "head.mha", "head.nrrd"])
def test_a_small_file_that_promises_a_large_volume_is_refused_and_takes_no_memory(name, size, words, head, tmp_path):
    path = tmp_path / name
    if path.suffix == ".mha":
        path.write_text(METAIMAGE.format(3, "1 1 1", f"{size} {size} {size}", "MET_SHORT", "LOCAL") + "abc")
    elif path.suffix == ".nrrd":
        space = "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n"
        path.write_text(NRRD.format("short", f"{size} {size} {size}", f"endian: little\n{space}\nabc"))
    else:
        content = bytearray(head().read_bytes())
        content[SIZE_OFFSET : SIZE_OFFSET + 6] = np.full(3, size, "<i2").tobytes()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=rf"{name} cannot be read: its header promises .*{words}"):
        load_volume(path)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_BYTES


def test_a_wrong_checksum_is_noticed_though_all_voxels_unpack(head):
    """Readers stop at the last voxel, before the checksum."""
    path = head("head.nii.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    assert np.asarray(nib.load(path).dataobj).shape == HEAD_SHAPE
    with pytest.raises(ValueError, match="cannot be read: CRC check failed"):
        load_volume(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda header: header.set_sform(np.diag([1.0, 2, 4, 1]), 1),
            "edges of 1 x 2 x 4 mm by the affine and of 1 x 2 x 3 mm",
        ),
        (lambda header: header.set_sform(np.diag([1.0, 2, 0, 1]), 1), "edges of 1 x 2 x 0 mm; allowed"),
    ],
)
def test_an_affine_that_disagrees_with_the_voxel_sizes_is_refused(change, words, head):
    with pytest.raises(ValueError, match=words):
        load_volume(head(change=change))


def test_an_affine_that_differs_by_rounding_is_taken_as_it_is(head):
    """MONAI would take the voxel sizes, and the mask would lie elsewhere than the scan."""
    path = head(change=lambda header: header.set_sform(np.diag([1.0, 2, 3.01, 1]), 1))
    np.testing.assert_array_equal(load_volume(path).affine, nib.load(path).affine)


@pytest.mark.parametrize(("unit", "mm"), [("meter", 1000), ("micron", 0.001), ("mm", 1), ("unknown", 1)])
def test_a_scan_in_meters_or_micrometers_is_read_in_mm(tmp_path, unit, mm):
    affine = np.diag([1 / mm, 1 / mm, 1 / mm, 1]) @ AFFINE
    image = nib.Nifti1Image(VALUES, affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "scan.nii")
    np.testing.assert_allclose(load_volume(tmp_path / "scan.nii").affine, AFFINE, rtol=1e-6)


@pytest.mark.parametrize(("space", "signs"), [("LPS", (-1, -1)), ("RAS", (1, 1)), ("left-anterior-superior", (-1, 1))])
def test_an_nrrd_lies_where_its_space_says(tmp_path, space, signs):
    fields = f"space: {space}\nspace directions: (1,0,0) (0,2,0) (0,0,3)\nspace origin: (10,20,30)\nendian: little\n\n"
    (tmp_path / "scan.nrrd").write_bytes(NRRD.format("short", "11 13 21", fields).encode() + VALUES.tobytes(order="F"))
    image = load_volume(tmp_path / "scan.nrrd")
    np.testing.assert_array_equal(image[0], VALUES)
    x, y = signs
    np.testing.assert_allclose(image.affine[:3], [[x, 0, 0, 10 * x], [0, 2 * y, 0, 20 * y], [0, 0, 3, 30]])


def test_a_unit_that_contradicts_a_plausible_voxel_size_is_ignored(tmp_path):
    image = nib.Nifti1Image(VALUES, AFFINE)
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "scan.nii")
    np.testing.assert_allclose(load_volume(tmp_path / "scan.nii").affine, AFFINE)


def test_a_scan_of_hundreds_of_liters_is_refused(head):
    with pytest.raises(ValueError, match="liters large; allowed are up to 250"):
        load_volume(head(values=np.ones((70, 70, 70), np.uint8), affine=np.diag([9.5, 9.5, 9.5, 1])))


@pytest.mark.parametrize("kind", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_voxels_that_are_no_numbers_are_refused(kind, head):
    with pytest.raises(ValueError, match=r"cannot be read: its voxels are of the type .*; expected one number each"):
        load_volume(head(values=np.zeros(HEAD_SHAPE, kind)))


@pytest.mark.parametrize("named", ["/etc/passwd", "../secret.raw", "missing.raw"])
@pytest.mark.parametrize("suffix", ["mhd", "mha", "nrrd"])
def test_a_header_cannot_have_other_files_read_as_images(named, suffix, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.raw").write_bytes(bytes(8))
    path = tmp_path / "in" / f"head.{suffix}"
    if suffix == "nrrd":
        path.write_text(NRRD.format("uchar", "2 2 2", f"data file: {named}\n"))
    else:
        path.write_text(METAIMAGE.format(3, "1 1 1", "2 2 2", "MET_UCHAR", named))
    with pytest.raises(ValueError, match=r"head\.\w+ cannot be read: "):
        load_volume(path)


def test_a_metaimage_header_with_its_voxels_beside_it_is_read(tmp_path):
    (tmp_path / "head.raw").write_bytes(bytes(range(8)))
    (tmp_path / "head.mhd").write_text(METAIMAGE.format(3, "1 1 1", "2 2 2", "MET_UCHAR", "head.raw"))
    assert sorted(load_volume(tmp_path / "head.mhd").flatten().tolist()) == list(range(8))


@pytest.mark.parametrize("axes", [1, 5])
def test_a_number_of_axes_that_itk_cannot_read_is_refused_at_once(axes, tmp_path):
    path = tmp_path / "head.mha"
    path.write_bytes(METAIMAGE.format(axes, "1 " * axes, "8 " * axes, "MET_UCHAR", "LOCAL").encode() + bytes(8**axes))
    with pytest.raises(ValueError, match=f"it has {axes} axes; expected 2 to 4"):
        load_volume(path)


@pytest.mark.parametrize(("name", "kind"), [("MET_CHAR", "i1"), ("MET_LONG_LONG", "i8"), ("MET_ULONG_LONG", "u8")])
def test_types_that_itk_has_no_images_for_are_read(name, kind, tmp_path):
    path, values = tmp_path / "head.mha", np.arange(np.prod(HEAD_SHAPE)).astype(kind)
    path.write_bytes(METAIMAGE.format(3, "1 2 3", "7 8 9", name, "LOCAL").encode() + values.tobytes())
    np.testing.assert_array_equal(load_volume(path)[0].numpy().ravel(order="F"), values.astype(np.float32))
