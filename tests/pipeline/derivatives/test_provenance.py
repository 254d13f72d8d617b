"""A scan is known by the content of all its files."""

import pytest

from strokelesion.pipeline.derivatives.provenance import scan_files, sha256_of_scan

RAW = "ElementDataFile = scan.raw\n"


@pytest.mark.parametrize(
    ("name", "header", "beside"),
    [
        ("scan.mhd", RAW, ["scan.raw"]),
        ("scan.nhdr", "NRRD0004\ndata file: scan.raw\n", ["scan.raw"]),
        ("scan.hdr", "header", ["scan.img", "scan.mat"]),
        ("scan.img", "voxels", ["scan.hdr"]),
        ("scan.mha", "ElementDataFile = LOCAL\n", []),
        ("scan.mhd", "ElementDataFile = /etc/passwd\n", []),
        ("scan.nii", "voxels", []),
    ],
)
def test_a_change_of_any_file_of_a_scan_changes_its_hash(tmp_path, name, header, beside):
    item = {"image": str(tmp_path / name)}
    (tmp_path / name).write_text(header)
    for other in ("other.raw", "scan.txt", *beside):
        (tmp_path / other).write_text("first")
    assert scan_files(item) == [tmp_path / file for file in (name, *beside)]
    before = sha256_of_scan(item)
    (tmp_path / "other.raw").write_text("second")
    assert sha256_of_scan(item) == before
    for other in beside:
        (tmp_path / other).write_text("second")
        assert sha256_of_scan(item) != before
        before = sha256_of_scan(item)
