"""Files are whole or not there, and derived files are named by everything that they are made from."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from strokelesion.pipeline.runtime.derived_files import derived_path, file_states, sha256_of_files
from strokelesion.pipeline.runtime.files import remove_parts, write_bytes, written_whole


def test_a_file_that_fails_leaves_the_old_one_and_nothing_else(tmp_path):
    path = write_bytes(tmp_path / "new folder" / "table.csv", b"old")

    def fill_the_disk():
        with written_whole(path) as beside:
            beside.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as error:
        fill_the_disk()
    assert error.value.filename == str(path)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == {"table.csv": b"old"}


def test_a_part_that_another_process_finishes_meanwhile_is_no_error(tmp_path, monkeypatch):
    """Of several runs that make one store, one renames its part after another has seen it."""
    dead, gone, fresh = (tmp_path / f".scan.npy.0000000{number}.part" for number in range(3))
    for part in (dead, fresh):
        part.touch()
    os.utime(dead, (0, 0))
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [gone, dead, fresh])
    remove_parts(tmp_path, older_than_s=3600)
    assert [dead.exists(), fresh.exists()] == [False, True]


def test_a_derived_file_has_a_readable_name_that_follows_everything_it_is_made_from(tmp_path):
    source = write_bytes(tmp_path / "scan.nii", b"a scan")

    def name(settings=None, array=None):
        array = np.arange(6) if array is None else array
        made_from = [settings or {"threshold": 0.5, "planes": ("axial",)}, array, file_states([source])]
        return derived_path(tmp_path, "sub-01", made_from, ".npy").name

    first = name()
    assert first.startswith("sub-01_")
    assert first.endswith(".npy")
    assert first == name(settings={"planes": ["axial"], "threshold": 0.5}) == name(array=torch.arange(6))
    others = {name(settings={"threshold": 0.4}), name(array=np.arange(6).reshape(2, 3)), name(array=np.arange(6.0))}
    before = sha256_of_files([source])
    os.utime(source, ns=(0, 0))
    assert len({first, *others, name()}) == 5
    assert sha256_of_files([source]) == before
    assert sha256_of_files([source, write_bytes(tmp_path / "more", b"!")]) != before


def test_long_names_are_cut_off(tmp_path):
    long = derived_path(tmp_path, "名" * 300, [], ".npy")
    assert write_bytes(long, b"").is_file()
