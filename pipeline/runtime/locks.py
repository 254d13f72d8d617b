"""One run at a time in a folder: a second one is refused, and what a killed one left half-written is removed.

The lock is the operating system's, on the file `.lock` in the folder. It ends with its process, however that ends; the file
stays and says who came last. On NFS (Linux 2.6.12 and newer) and on Lustre mounted with `flock` it holds between machines; on
Lustre with `localflock` and on some FUSE and cloud mounts only between the processes of one machine. Where a file system
knows no locks at all, a warning says so and the run goes on without.
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
# So long a lock is looked at again, which another process may hold for a moment only, to see whether it is free.
GLANCE_S = 10
logger = logging.getLogger(__name__)
# By folder; a process that runs several commands, one after the other, is never in its own way.
_held: dict[Path, FileLock] = {}


def claim(folder: str | Path, option: str, part: tuple[int, int] | None = None) -> None:
    """Take a folder for this process, until `release` or the end of the process.

    Of several processes that the launcher started, the first takes it for all.

    Args:
        folder: made if need be; half-written files that lie in it, of runs that were killed, are removed, but for a part.
        option: the option that names it.
        part: number and count, where runs share the folder: then other parts of the same count may hold theirs.

    Raises:
        UserError: when another process holds it; says which.
    """
    with idist.one_rank_first():
        if is_first() and (place := Path(folder).absolute()) not in _held:
            place.mkdir(parents=True, exist_ok=True)
            _take(place, option, part)


def _take(folder: Path, option: str, part: tuple[int, int] | None) -> None:
    own = folder / lock_name(part)
    # Where parts are, others may be glancing at this lock.
    lock = _lock(own, GLANCE_S if part or any(folder.glob(f"{LOCK}-*")) else 0)
    try:
        lock.acquire()
        # Everyone takes their own lock before they look at others': of two who come at once, one at least sees the other.
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
    """Return the locks in a folder that nobody else may hold: those of all other runs, but for parts of the same count."""
    others = set(folder.glob(f"{LOCK}*")) - {folder / lock_name(part)}
    fellows = set() if part is None else set(folder.glob(f"{LOCK}-*-of-{part[1]}"))
    return sorted(others - fellows)


def release(folder: str | Path) -> None:
    """Give a folder back; nothing happens where this process does not hold it."""
    if (lock := _held.pop(Path(folder).absolute(), None)) is not None:
        lock.release(force=True)


@contextmanager
def claimed(folder: str | Path, option: str, part: tuple[int, int] | None = None) -> Iterator[None]:
    """Hold a folder as long as the block runs; see `claim`."""
    claim(folder, option, part)
    try:
        yield
    finally:
        release(folder)


def holder(lock: Path) -> str:
    """Return what a lock says about who holds it."""
    try:
        return lock.read_text(errors="replace").strip() or "just started"
    except OSError:
        return "unknown"
