"""Files whose content is elsewhere are refused with the command that fetches it; packed files are known by their content."""

import gzip
import os

import nibabel as nib
import numpy as np
import pytest

from strokelesion.transforms.reading import load_volume
from strokelesion.transforms.sample_error import SampleError

VALUES = np.arange(9 * 7 * 8, dtype=np.int16).reshape(9, 7, 8)
PLAIN = nib.Nifti1Image(VALUES, np.diag([1.0, 2, 3, 1])).to_bytes()


@pytest.mark.parametrize("name", ["head.nii", "head.nii.gz", "HEAD.NII", "HEAD.NII.GZ"])
@pytest.mark.parametrize("content", [PLAIN, gzip.compress(PLAIN)], ids=["plain", "packed"])
def test_a_scan_is_read_by_its_content_whatever_its_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    image = load_volume(str(tmp_path / name))
    np.testing.assert_array_equal(image[0].numpy(), VALUES)
    assert image.meta["filename_or_obj"] == str(tmp_path / name)


def test_messages_name_the_file_and_not_the_link_that_is_read(tmp_path):
    (tmp_path / "head.nii").write_bytes(gzip.compress(b"no scan"))
    with pytest.raises(SampleError) as error:
        load_volume(str(tmp_path / "head.nii"))
    assert "scan_" not in str(error.value).replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"/annex/objects/SHA256E-s6450250--0123.nii.gz\n", "is in git-annex.* Fetch it: datalad get '.*head.nii.gz'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 64\n", "pointer of git-lfs.* git lfs pull"),
        (b"", "cannot be read"),
    ],
    ids=["annex", "lfs", "empty"],
)
def test_placeholders_say_how_to_fetch_the_content(tmp_path, content, message):
    (tmp_path / "head.nii.gz").write_bytes(content)
    with pytest.raises(SampleError, match=message):
        load_volume(str(tmp_path / "head.nii.gz"))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("../.git/annex/objects/aa/bb/x.nii.gz", "datalad get"),
        ("nowhere.nii.gz", "is a link to nowhere.nii.gz, which does not"),
    ],
)
def test_links_without_content_say_what_is_missing(tmp_path, target, message):
    os.symlink(target, tmp_path / "head.nii.gz")
    with pytest.raises(SampleError, match=message):
        load_volume(str(tmp_path / "head.nii.gz"))
