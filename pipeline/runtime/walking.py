"""One walk through a folder for all commands: links are followed without loops, hidden and system files are passed over."""

import os
from collections.abc import Iterator
from pathlib import Path

# Folders in which macOS, Windows, Linux and file servers keep shadows of files, deleted files and earlier versions.
SYSTEM_FOLDERS = {
    *("__macosx", "$recycle.bin", "system volume information", "lost+found"),
    *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "~snapshot"),
}


def walk(root: str | Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield each folder below a root once, as `os.walk` does: folder, names of subfolders, names of files, both sorted.

    A folder that several links lead to is entered once. Remove a name from the subfolders to pass it over. Links to files that
    do not exist are yielded too, because their names say what is missing.
    """
    entered: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_of_system(name))  # os.walk enters only those that remain here
        if (path := os.path.realpath(folder)) in entered:
            folders.clear()
            continue
        entered.add(path)
        yield Path(folder), folders, sorted(name for name in files if name[0] != ".")


def is_of_system(name: str) -> bool:
    """Return whether a folder is hidden or one of `SYSTEM_FOLDERS`."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS
