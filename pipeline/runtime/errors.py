"""Errors as the user sees them: the message without a traceback, and the list of all affected files."""

import errno
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from strokelesion.networks import UserError

NAMED_AT_MOST = 10
# Advice on errors of the operating system that a user can correct; all others are faults of this project.
PATHS = "expected a path that you may read and write. Check it, or name another."
ROOM = "expected room for the results. Free space there, or name a folder on another disk; the same command goes on from here."
ADVICE = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT), PATHS),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), ROOM),
}
# Words in the messages of gloo and NCCL when a process of the same command has ended.
GONE = ("Connection closed by peer", "Connection reset by peer", "ncclRemoteError")


class Fault(NamedTuple):
    """One kind of problem with files.

    Attributes:
        what: Words for the files in the plural, to follow a number.
        each: Words for one file.
        files: Affected files.
        advice: Sentences that say what is expected and what to do.
    """

    what: str
    each: str
    files: Sequence[str]
    advice: str


class Issue(NamedTuple):
    """What is wrong with one file, with advice.

    Attributes:
        file: Path of the file.
        what: Words for the issue. It continues a sentence that starts with the file name, without a full stop.
        advice: Advice in full sentences.
    """

    file: str
    what: str
    advice: str


def user_error(error: BaseException) -> UserError | None:
    """Return the first error for the user in a chain of causes, or None: MONAI and this project raise other errors from it.

    Errors of the operating system that a user can correct, such as a full disk, are converted.
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
    """Return an error of the operating system as an error with advice, or None if it names no file or has no advice."""
    if error.errno not in ADVICE or error.filename is None:
        return None
    return UserError(f"{error.filename}: {error.strerror}; {ADVICE[error.errno]}")


def of_other_process(error: BaseException | None) -> UserError | None:
    """Return the error for a process whose partner process has ended, or None for any other error."""
    while error is not None:
        if isinstance(error, RuntimeError) and any(words in str(error) for words in GONE):
            return UserError("another process of this command has ended; expected all to go on. Its own message says why.")
        error = error.__cause__
    return None


def reason(error: BaseException) -> str:
    """Return the reason of a failure as text: the message for the user, or type and message of the first error."""
    known = user_error(error)
    return f"{type(root(error)).__name__}: {root(error)}" if known is None else str(known)


def root(error: BaseException) -> BaseException:
    """Return the first error of a chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def show_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error for the user as one line and exit with its status; print any other error with its traceback."""
    known = user_error(error) or of_other_process(error)
    if known is None:
        sys.__excepthook__(kind, error, trace)
        return
    print(f"error: {known}", file=sys.stderr)
    if known.exit_status != 1:  # Python ends with 1 by itself
        raise SystemExit(known.exit_status)


def format_issue(what: str, files: Sequence[str | Path], advice: str) -> str:
    """Return one paragraph of a message: the number of affected files, the first of them, and advice; "" for no files."""
    if not files:
        return ""
    more = [f"… and {len(files) - NAMED_AT_MOST} more"] if len(files) > NAMED_AT_MOST else []
    return "\n  ".join([f"{len(files)} {what}:", *map(str, files[:NAMED_AT_MOST]), *more]) + f"\n{advice}"


def refuse(issues: Iterable[str], kind: type[UserError] = UserError) -> None:
    """Raise one error with all paragraphs, if there are any."""
    if message := "\n\n".join(filter(None, issues)):
        raise kind(message)
