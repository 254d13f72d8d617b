"""Lock a folder for one run: a second run is refused, and incomplete files of a killed run are removed.

The operating system locks the file `.lock` in the folder. The lock ends with its process in any case, and children do not
inherit it; the file stays and names the run that last took it. A run locks all bytes of the file, and a run that does one part
of the work locks the byte of its number. On NFS and on Lustre mounted with `flock`, the lock works between machines. On Lustre
with `localflock` and on some FUSE and cloud mounts, it works only between processes of one machine. If a file system or an
operating system has no such locks, the run logs a warning and continues without one.
"""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ignite.distributed as idist

from strokelesion.networks import UserError
from strokelesion.pipeline.runtime.files import remove_parts
from strokelesion.pipeline.runtime.processes import is_first

LOCK = ".lock"
logger = logging.getLogger(__name__)
# Descriptors of the locked files of this process by folder. To open and close a locked file a second time would unlock it.
_held: dict[Path, int] = {}


def claim(folder: str | Path, option: str, part: int | None = None) -> None:
    """Lock a folder for this process until `release` or the end of the process.

    If the launcher started several processes, the first one locks the folder for all.

    Args:
        folder: Folder to lock; created if it is missing. Incomplete files of killed runs are removed, unless `part` is given.
        option: Name of the option that gives the folder.
        part: Number of a part of the work; runs on other parts may use the folder too, as their files are others. None locks
            the folder for all work.

    Raises:
        UserError: Another process holds the folder; the message names it.
    """
    with idist.one_rank_first():
        if is_first() and (path := Path(folder).absolute()) not in _held:
            path.mkdir(parents=True, exist_ok=True)
            _held[path] = _lock(path, option, part)
            if part is None:
                remove_parts(path)


def _lock(folder: Path, option: str, part: int | None) -> int:
    """Return the descriptor of a folder's lock file, locked where that is possible."""
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        from fcntl import LOCK_EX, LOCK_NB, lockf  # Windows has no such module

        first_byte, byte_count = (0, 0) if part is None else (part, 1)  # a count of 0 means all bytes
        lockf(file, LOCK_EX | LOCK_NB, byte_count, first_byte)
    except (BlockingIOError, PermissionError):
        holder = os.read(file, 1000).decode(errors="replace").strip() or "just started"
        os.close(file)
        raise UserError(
            f"{folder} is in use by another run ({holder}); expected one run at a time. Wait until it ends, stop it, or choose "
            f"another --{option}."
        ) from None
    except (ImportError, OSError) as error:
        logger.warning("%s cannot be locked (%s): see to it that no second run writes there", folder, error)
    else:
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%F %T')}\n".encode())
    return file


def release(folder: str | Path) -> None:
    """Unlock a folder; do nothing if this process does not hold it."""
    if (file := _held.pop(Path(folder).absolute(), None)) is not None:
        os.close(file)


@contextmanager
def claimed(folder: str | Path, option: str, part: int | None = None) -> Iterator[None]:
    """Lock a folder while the block runs; see `claim`."""
    claim(folder, option, part)
    try:
        yield
    finally:
        release(folder)
