"""Lock a folder for one run: a second run is refused, and incomplete files of a killed run are removed.

The operating system locks the file `.lock` in the folder. The lock ends with its process in any case; the file stays and
names the last holder. On NFS (Linux 2.6.12 and newer) and on Lustre mounted with `flock`, the lock works between machines. On
Lustre with `localflock` and on some FUSE and cloud mounts, it works only between processes of one machine. If a file system
has no locks, the run logs a warning and continues without one.
"""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ignite.distributed as idist
from filelock import FileLock, Timeout

from strokelesion.networks import UserError
from strokelesion.pipeline.runtime.files import remove_parts
from strokelesion.pipeline.runtime.processes import is_first

LOCK = ".lock"
# Seconds to keep retrying a lock that another process usually holds only briefly, to see whether it is free.
GLANCE_S = 10
logger = logging.getLogger(__name__)
# Locks of this process by folder, so that several commands in one process do not block each other.
_held: dict[Path, FileLock] = {}


def claim(folder: str | Path, option: str, part: tuple[int, int] | None = None) -> None:
    """Lock a folder for this process until `release` or the end of the process.

    If the launcher started several processes, the first one locks the folder for all.

    Args:
        folder: Folder to lock; created if it is missing. Incomplete files of killed runs are removed, unless `part` is given.
        option: Name of the option that gives the folder.
        part: Number and count of parts if runs share the folder: other parts of the same count may hold their locks.

    Raises:
        UserError: Another process holds the folder; the message names it.
    """
    with idist.one_rank_first():
        if is_first() and (place := Path(folder).absolute()) not in _held:
            place.mkdir(parents=True, exist_ok=True)
            _take(place, option, part)


def _take(folder: Path, option: str, part: tuple[int, int] | None) -> None:
    own = folder / lock_name(part)
    # If there are parts, another process may test this lock briefly.
    lock = _lock(own, GLANCE_S if part or any(folder.glob(f"{LOCK}-*")) else 0)
    try:
        lock.acquire()
        # Each process takes its own lock before it tests others: of two that start together, at least one sees the other.
        for rival in rivals(folder, part):
            with _lock(rival, GLANCE_S):
                pass
    except Timeout as timeout:
        lock.release(force=True)
        raise UserError(
            f"{folder} is in use by another run ({holder(Path(timeout.lock_file))}); expected one run at a time. Wait until it "
            f"ends, stop it, or choose another --{option}."
        ) from None
    except (NotImplementedError, OSError) as error:
        logger.warning("%s cannot be locked (%s): see to it that no second run writes there", folder, error)
    else:
        _held[folder] = lock
        own.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%F %T')}\n")
    if part is None:
        remove_parts(folder)


def _lock(path: Path, patience_s: float) -> FileLock:
    return FileLock(path, timeout=patience_s, thread_local=False, fallback_to_soft=False)


def lock_name(part: tuple[int, int] | None) -> str:
    """Return the name of the lock of a whole folder, or of a part of the work there."""
    return LOCK if part is None else f"{LOCK}-{part[0]}-of-{part[1]}"


def rivals(folder: Path, part: tuple[int, int] | None) -> list[Path]:
    """Return the locks in a folder that must be free: those of all other runs, except parts of the same count."""
    others = set(folder.glob(f"{LOCK}*")) - {folder / lock_name(part)}
    fellows = set() if part is None else set(folder.glob(f"{LOCK}-*-of-{part[1]}"))
    return sorted(others - fellows)


def release(folder: str | Path) -> None:
    """Unlock a folder; do nothing if this process does not hold it."""
    if (lock := _held.pop(Path(folder).absolute(), None)) is not None:
        lock.release(force=True)


@contextmanager
def claimed(folder: str | Path, option: str, part: tuple[int, int] | None = None) -> Iterator[None]:
    """Lock a folder while the block runs; see `claim`."""
    claim(folder, option, part)
    try:
        yield
    finally:
        release(folder)


def holder(lock: Path) -> str:
    """Return the holder of a lock, as its file names it."""
    try:
        return lock.read_text(errors="replace").strip() or "just started"
    except OSError:
        return "unknown"
