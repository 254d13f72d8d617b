"""Write files atomically: the whole file or nothing."""

import gzip
import json
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from math import isnan
from pathlib import Path
from typing import Any

import nibabel as nib
import pandas as pd

DECIMALS = 6
_PART = re.compile(r"\..+\.[0-9a-f]{8}\.part")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; if the block succeeds, sync the file to disk and rename it to `path`.

    A reader sees the old file or the new one, never a part. If the block fails, the temporary file is removed and the old
    file stays. A missing folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        # The error of a full disk names no file, and the user does not know the temporary name.
        if error.errno is not None and error.filename in (None, str(beside)):
            error.filename = str(path)
        raise
    finally:
        beside.unlink(missing_ok=True)


def remove_parts(folder: Path, older_than_s: float = 0) -> None:
    """Remove temporary files that `written_whole` left in a folder when its process was killed.

    Args:
        folder: Folder in which no other process writes to files of this age.
        older_than_s: Minimum time since the last change of a file that is removed.
    """
    for path in folder.glob(".*.part"):
        # Another process may have renamed the file in the meantime.
        with suppress(FileNotFoundError):
            if _PART.fullmatch(path.name) and time.time() - path.stat().st_mtime >= older_than_s:
                path.unlink()


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file atomically and return its path."""
    with written_whole(path) as beside:
        beside.write_bytes(content)
    return path


def write_text(path: Path, content: str) -> Path:
    """Write a text atomically as UTF-8 and return its path; bytes that are no valid text become escape sequences."""
    readable = content.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return write_bytes(path, readable.encode())


def write_nifti(path: Path, image: nib.Nifti1Image, compression: int = 1) -> Path:
    """Write a compressed NIfTI file atomically and return its path; equal images give equal bytes."""
    return write_bytes(path, gzip.compress(image.to_bytes(), compresslevel=compression, mtime=0))


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write an object as JSON with sorted keys and return its path."""
    return write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Write a table as CSV with numbers rounded to six decimals and return its path."""
    return write_text(path, table.round(DECIMALS).to_csv(index=False, lineterminator="\n"))


def write_tsv(path: Path, table: pd.DataFrame) -> Path:
    """Write a table in BIDS format and return its path: tab-separated, with `n/a` for unknown values."""
    return write_text(path, table.round(DECIMALS).to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n"))


def plain(thing: Any) -> Any:
    """Return table rows in JSON form: numbers with six decimals, null for unknown values."""
    if isinstance(thing, Mapping):
        return {key: plain(value) for key, value in thing.items()}
    if isinstance(thing, list):
        return [plain(value) for value in thing]
    if isinstance(thing, float):
        return None if isnan(thing) else round(thing, DECIMALS)
    return thing
