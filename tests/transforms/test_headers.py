"""Headers that promise what cannot be: refused in words before memory is taken."""

import gzip
import resource

import nibabel as nib
import numpy as np
import pytest

from strokelesion.transforms import LoadScand
from strokelesion.transforms.reading import MOST_VOXELS

SHAPE = (7, 8, 9)
SIZE_OFFSET = 42  # of the first axis in a NIfTI header
MOST_BYTES = 2**28


def load(path):
    return LoadScand("image")({"image": str(path)})["image"]


@pytest.fixture
def head(tmp_path):
    """Write a small NIfTI file with a change to its image; returns the path."""

    def write(name="head.nii", values=None, affine=None, change=None):
        values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) if values is None else values
        image = nib.Nifti1Image(values, np.diag([1.0, 2, 3, 1]) if affine is None else affine)
        if change is not None:
            change(image.header)
            image = nib.Nifti1Image(values, None, image.header)  # else the affine would be written over the change
        nib.save(image, tmp_path / name)
        return tmp_path / name

    return write


def patched(path, content, packed):
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


@pytest.mark.parametrize(
    ("size", "words"), [(30_000, f"allowed are 1 to {MOST_VOXELS}"), (900, "more than can be in a file of")]
)
@pytest.mark.parametrize("name", ["head.nii", "head.nii.gz", "head.mha", "head.nrrd"])
def test_a_small_file_that_promises_a_large_volume_is_refused_and_takes_no_memory(name, size, words, head, tmp_path):
    path = tmp_path / name
    if path.suffix == ".mha":
        kind = "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = False\nElementSpacing = 1 1 1\n"
        path.write_text(f"{kind}DimSize = {size} {size} {size}\nElementType = MET_SHORT\nElementDataFile = LOCAL\nabc")
    elif path.suffix == ".nrrd":
        kind = (
            "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
        )
        path.write_text(f"{kind}sizes: {size} {size} {size}\nendian: little\nencoding: raw\nspace origin: (0,0,0)\n\nabc")
    else:
        content = bytearray(head().read_bytes())
        content[SIZE_OFFSET : SIZE_OFFSET + 6] = np.full(3, size, "<i2").tobytes()
        patched(path, bytes(content), path.suffix == ".gz")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=rf"{name} cannot be read: its header promises .*{words}"):
        load(path)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_BYTES


def test_a_wrong_checksum_is_noticed_though_all_voxels_unpack(head):
    """Readers stop at the last voxel, before the checksum."""
    path = head("head.nii.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    assert np.asarray(nib.load(path).dataobj).shape == SHAPE
    with pytest.raises(ValueError, match="cannot be read: CRC check failed"):
        load(path)


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
        load(head(change=change))


def test_an_affine_that_differs_by_rounding_is_taken_as_it_is(head):
    """MONAI would take the voxel sizes, and the mask would lie elsewhere than the scan."""
    path = head(change=lambda header: header.set_sform(np.diag([1.0, 2, 3.01, 1]), 1))
    np.testing.assert_array_equal(load(path).affine, nib.load(path).affine)


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.diag([0.001, 0.001, 0.001, 1]), "edges of 0.001 x 0.001 x 0.001 mm; allowed are 0.1 to 10 mm"),
        (np.array([[1, 1, 0, 0], [0, 0.001, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "lie in one plane"),
        (np.diag([9.5, 9.5, 9.5, 1]), "liters large; allowed are up to 250"),
    ],
)
def test_grids_that_no_head_has_are_refused(affine, words, head):
    values = np.ones((70, 70, 70), np.uint8) if "liters" in words else None
    with pytest.raises(ValueError, match=words):
        load(head(values=values, affine=affine))


@pytest.mark.parametrize("kind", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_voxels_that_are_no_numbers_are_refused(kind, head):
    with pytest.raises(ValueError, match=r"cannot be read: its voxels are of the type .*; expected one number each"):
        load(head(values=np.zeros(SHAPE, kind)))


@pytest.mark.parametrize("named", ["/etc/passwd", "../secret.raw", "missing.raw"])
@pytest.mark.parametrize("suffix", ["mhd", "mha", "nrrd"])
def test_a_header_cannot_have_other_files_read_as_images(named, suffix, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.raw").write_bytes(bytes(8))
    path = tmp_path / "in" / f"head.{suffix}"
    if suffix == "nrrd":
        path.write_text(f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: {named}\n")
    else:
        path.write_text(f"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = {named}\n")
    with pytest.raises(ValueError, match=r"head\.\w+ cannot be read: "):
        load(path)


def test_a_metaimage_header_with_its_voxels_beside_it_is_read(tmp_path):
    (tmp_path / "head.raw").write_bytes(bytes(range(8)))
    kind = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 2 2 2\nElementSpacing = 1 1 1\nElementType = MET_UCHAR\n"
    )
    (tmp_path / "head.mhd").write_text(f"{kind}ElementDataFile = head.raw\n")
    assert sorted(load(tmp_path / "head.mhd").flatten().tolist()) == list(range(8))


METAIMAGE = "ObjectType = Image\nNDims = {}\nElementSpacing = {}\nDimSize = {}\nElementType = {}\nElementDataFile = LOCAL\n"


@pytest.mark.parametrize("axes", [1, 5])
def test_a_number_of_axes_that_itk_cannot_read_is_refused_at_once(axes, tmp_path):
    path = tmp_path / "head.mha"
    path.write_bytes(METAIMAGE.format(axes, "1 " * axes, "8 " * axes, "MET_UCHAR").encode() + bytes(8**axes))
    with pytest.raises(ValueError, match=f"it has {axes} axes; expected 2 to 4"):
        load(path)


@pytest.mark.parametrize(("name", "kind"), [("MET_CHAR", "i1"), ("MET_LONG_LONG", "i8"), ("MET_ULONG_LONG", "u8")])
def test_types_that_itk_has_no_images_for_are_read(name, kind, tmp_path):
    path, values = tmp_path / "head.mha", np.arange(np.prod(SHAPE)).astype(kind)
    path.write_bytes(METAIMAGE.format(3, "1 2 3", "7 8 9", name).encode() + values.tobytes())
    np.testing.assert_array_equal(load(path)[0].numpy().ravel(order="F"), values.astype(np.float32))
