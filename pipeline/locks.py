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

from filelock import FileLock, Timeout

from strokelesion.pipeline.files import remove_parts

LOCK = ".lock"
logger = logging.getLogger(__name__)
# By folder; a process that runs several verbs, one after the other, is never in its own way.
_held: dict[Path, FileLock] = {}


def claim(folder: str | Path, knob: str) -> None:
    """Take a folder for this process, until `release` or the end of the process.

    Args:
        folder: made if need be; half-written files that lie in it, of runs that were killed, are removed.
        knob: the option that names it.

    Raises:
        ValueError: when another process holds it; says which.
    """
    folder = Path(folder).absolute()
    if folder in _held:
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"{folder} is in use by another run ({holder(folder)}); expected one run at a time. Wait until it ends, stop it, "
            f"or choose another --{knob}."
        ) from None
    except (NotImplementedError, OSError) as error:
        logger.warning("%s cannot be locked (%s): see to it that no second run writes there", folder, error)
    else:
        _held[folder] = lock
        (folder / LOCK).write_text(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%F %T')}\n")
    remove_parts(folder)


def release(folder: str | Path) -> None:
    """Give a folder back; nothing happens where this process does not hold it."""
    if (lock := _held.pop(Path(folder).absolute(), None)) is not None:
        lock.release(force=True)


@contextmanager
def claimed(folder: str | Path, knob: str) -> Iterator[None]:
    """Hold a folder as long as the block runs; see `claim`."""
    claim(folder, knob)
    try:
        yield
    finally:
        release(folder)


def holder(folder: Path) -> str:
    """Return what a folder's lock says about who holds it."""
    try:
        return (folder / LOCK).read_text(errors="replace").strip() or "just started"
    except OSError:
        return "unknown"
