"""A walk yields each folder once, sorted, without hidden ones."""

import os

from strokelesion.pipeline.runtime.walking import walk


def test_a_walk_is_sorted_follows_links_once_and_passes_over_what_is_removed_or_hidden(tmp_path):
    for name in (
        "b/x.nii",
        "a/y.nii",
        "a/deep/z.nii",
        ".git/annex/x.nii",
        "skipped/x.nii",
        "a/.hidden",
        "a/._y.nii",
        "__MACOSX/a/y.nii",
        "a/@eaDir/y.nii",
        "$RECYCLE.BIN/old.nii",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.symlink(tmp_path, tmp_path / "b/up")
    os.symlink(tmp_path / "a/deep", tmp_path / "b/again")
    os.symlink("nowhere", tmp_path / "b/broken.nii")
    seen = []
    for folder, folders, files in walk(tmp_path):
        if "skipped" in folders:
            folders.remove("skipped")
        seen.append((folder.relative_to(tmp_path).as_posix(), files))
    assert seen == [(".", []), ("a", ["y.nii"]), ("a/deep", ["z.nii"]), ("b", ["broken.nii", "x.nii"])]
