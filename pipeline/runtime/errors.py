"""What an error says to a user: the sentence that was raised on purpose, without its frames, and all files at fault."""

import errno
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from strokelesion.networks import UserError

NAMED_AT_MOST = 10
# What a user can do about errors of the operating system; all others are faults of this project.
PLACES = "expected a path that you may read and write. Check it, or name another."
ROOM = "expected room for the results. Free space there, or name a folder on another disk; the same command goes on from here."
ADVICE = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT), PLACES),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), ROOM),
}
# How gloo and NCCL say that a process of the same command is gone.
GONE = ("Connection closed by peer", "Connection reset by peer", "ncclRemoteError")


class Fault(NamedTuple):
    """One thing that is wrong with files.

    Attributes:
        what: what they are, in the plural, as a message counts them.
        each: what one of them is.
        files: those at fault.
        advice: what is expected and what to do, as sentences.
    """

    what: str
    each: str
    files: Sequence[str]
    advice: str


def user_error(error: BaseException) -> UserError | None:
    """Return the error that was raised for the user, where MONAI or this project raised another one from it; else None.

    Errors of the operating system that a user can correct, such as a full disk, are among them.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, UserError):
            return found
        if isinstance(found, OSError) and (known := of_system(found)) is not None:
            return known
        found = found.__cause__
    return None


def of_system(error: OSError) -> UserError | None:
    """Return what a user can do about an error of the operating system that names a file."""
    if error.errno not in ADVICE or error.filename is None:
        return None
    return UserError(f"{error.filename}: {error.strerror}; {ADVICE[error.errno]}")


def of_other_process(error: BaseException | None) -> UserError | None:
    """Return what a process says that waits for one that has ended."""
    while error is not None:
        if isinstance(error, RuntimeError) and any(words in str(error) for words in GONE):
            return UserError("another process of this command has ended; expected all to go on. Its own message says why.")
        error = error.__cause__
    return None


def reason(error: BaseException) -> str:
    """Return why something failed, as one line: what a user is told, or the kind of the fault."""
    known = user_error(error)
    return f"{type(root(error)).__name__}: {root(error)}" if known is None else str(known)


def root(error: BaseException) -> BaseException:
    """Return the first error of a chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def show_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error for the user as one line and end with its status; leave all others, which are faults, their traceback."""
    known = user_error(error) or of_other_process(error)
    if known is None:
        sys.__excepthook__(kind, error, trace)
        return
    print(f"error: {known}", file=sys.stderr)
    if known.exit_status != 1:  # Python ends with 1 by itself
        raise SystemExit(known.exit_status)


def finding(what: str, files: Sequence[str | Path], advice: str) -> str:
    """Return one paragraph of a message: how many files are at fault, the first of them, and what to do; "" for none."""
    if not files:
        return ""
    more = [f"… and {len(files) - NAMED_AT_MOST} more"] if len(files) > NAMED_AT_MOST else []
    return "\n  ".join([f"{len(files)} {what}:", *map(str, files[:NAMED_AT_MOST]), *more]) + f"\n{advice}"


def refuse(findings: Iterable[str], kind: type[UserError] = UserError) -> None:
    """Raise an error of all findings in one message, if there are any."""
    if message := "\n\n".join(filter(None, findings)):
        raise kind(message)
