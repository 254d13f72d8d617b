"""How this project writes a file: all of it or nothing."""

import gzip
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import pandas as pd

DECIMALS = 6


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; when the block ends well, bring the file to the disk and rename it.

    A reader sees the old file or the new one, never a part. When the block fails, what was written is removed and the old
    file stays. The folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file whole and return its path."""
    with written_whole(path) as beside:
        beside.write_bytes(content)
    return path


def write_nifti(path: Path, image: nib.Nifti1Image, compression: int = 1) -> Path:
    """Write a compressed NIfTI file whole and return its path; equal images give equal bytes."""
    return write_bytes(path, gzip.compress(image.to_bytes(), compresslevel=compression, mtime=0))


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write an object as JSON, keys sorted, and return its path."""
    return write_bytes(path, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Write a table as CSV, numbers with six decimals, and return its path."""
    return write_bytes(path, table.round(DECIMALS).to_csv(index=False, lineterminator="\n").encode())
