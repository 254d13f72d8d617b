"""What a file really holds: a scan, a placeholder of git-annex or git-lfs, or packed bytes whose name says otherwise."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strokelesion.transforms.sample_error import SampleError

GZIP = b"\x1f\x8b"
LFS_POINTER = b"version https://git-lfs"
# Names of one format, plain and packed; the content decides which one the reader is shown.
PLAIN_AND_PACKED = ((".nii", ".nii.gz"), (".mgh", ".mgz"))
_LONGEST_POINTER = 32 * 1024  # a limit that git-annex and git-lfs set themselves


def require_content(path: Path) -> None:
    """Refuse a file whose content is somewhere else.

    Raises:
        SampleError: With the command that fetches the content.
    """
    if path.is_symlink() and not path.exists():
        target = os.readlink(path)
        if "annex/objects" in target:
            raise in_annex(path)
        raise SampleError(str(path), f"is a link to {target}, which does not exist", "Mend the link, or move it away.")
    if not path.is_file() or path.stat().st_size > _LONGEST_POINTER:
        return
    start = path.read_bytes()
    if start.startswith(LFS_POINTER):
        raise SampleError(
            str(path),
            "is a pointer of git-lfs, and its content is not here",
            f"Fetch it: git lfs pull --include '{path.name}'.",
        )
    if b"/annex/objects/" in start[:64]:
        raise in_annex(path)


def in_annex(path: Path) -> SampleError:
    """Return the error for a file whose content git-annex keeps elsewhere."""
    return SampleError(str(path), "is in git-annex, and its content is not here", f"Fetch it: datalad get '{path}'.")


@contextmanager
def named_by_content(path: str) -> Iterator[str]:
    """Yield a path whose suffix says whether the file is packed: the path itself, or a temporary link to the file."""
    suffix = suffix_by_content(path)
    if path.lower().endswith(suffix):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="scan_") as folder:
        link = Path(folder, f"scan{suffix}")
        link.symlink_to(os.path.abspath(path))
        yield str(link)


def suffix_by_content(path: str) -> str:
    """Return the suffix that a NIfTI or FreeSurfer file should have; "" for other formats."""
    for plain, packed in PLAIN_AND_PACKED:
        if path.lower().endswith((plain, packed)):
            with open(path, "rb") as file:
                start = file.read(2)
            # An empty file keeps its name.
            return (packed if start == GZIP else plain) if start else ""
    return ""
