"""Files that are made from other files and kept, so that nothing is computed twice: their names and their inputs.

The name of such a file contains the fingerprint of everything that decides its content. It is used if it exists, and otherwise
written with `files.py`: the whole file or nothing. A changed input gives a new name, so no file ever becomes outdated.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from strokelesion.transforms.recipe import fingerprint

FINGERPRINT_DIGITS = 20
# Maximum length of the readable part of a name; the fingerprint identifies the file.
LONGEST_NAME = 50


def derived_path(folder: str | Path, name: str, made_from: Any, ending: str) -> Path:
    """Return the path of a derived file: `<folder>/<name>_<digits of the fingerprint><ending>`.

    Args:
        folder: Folder of the file.
        name: Readable part of the file name; cut off after `LONGEST_NAME` characters.
        made_from: Everything that decides the content: settings, transforms, arrays, and files as `file_states`.
        ending: End of the file name, such as `.npy`.
    """
    return Path(folder) / f"{name[:LONGEST_NAME]}_{fingerprint(made_from)[:FINGERPRINT_DIGITS]}{ending}"


def file_states(paths: Iterable[str | Path]) -> list[tuple[str, int, int]]:
    """Return path, size and modification time of files, which show a change without reading the files."""
    states = [(Path(path).absolute(), Path(path).stat()) for path in paths]
    return [(str(path), state.st_size, state.st_mtime_ns) for path, state in states]


def sha256_of_files(paths: Iterable[str | Path], start: bytes = b"") -> str:
    """Return the SHA-256, in hexadecimal digits, of some bytes and of the content of files in their order."""
    sha = hashlib.sha256(start)
    for path in paths:
        sha.update(Path(path).read_bytes())
    return sha.hexdigest()
