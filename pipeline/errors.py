"""What an error says to a user: the sentence that this project raised, not the frames around it, and all files at fault."""

import errno
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

NAMED_AT_MOST = 10
# What a user can do about errors of the operating system; others are faults of this project.
PLACES = "expected a path that you may read and write. Check it, or name another."
ROOM = "expected room for the results. Free space there, or name a folder on another disk; the same command goes on from here."
ADVICE = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR), PLACES),
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


def innermost(error: BaseException) -> BaseException:
    """Return the first error of a chain, as far as it is shown; MONAI wraps what a transform or component raised.

    Of errors of the operating system that follow from one another, as when folders are made for a file, the last counts.
    """
    while (cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
        if isinstance(error, OSError) and isinstance(cause, OSError):
            break
        error = cause
    return error


def is_own(error: BaseException) -> bool:
    """Return whether a line of this project raised the error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith("strokelesion.")


def sentence_of(error: BaseException) -> str | None:
    """Return what an error says to a user: of one that this project raised, or that the operating system did, else nothing.

    Of several processes that do one command together, those that wait for one that has ended say that.
    """
    if is_own(error) and not isinstance(error, OSError):
        return str(error)
    if isinstance(error, OSError) and error.errno in ADVICE and error.filename is not None:
        return f"{error.filename}: {error.strerror}; {ADVICE[error.errno]}"
    if isinstance(error, RuntimeError) and any(words in str(error) for words in GONE):
        return "another process of this command has ended; expected all to go on. Its own message says why."
    return None


def show_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error that a user can do something about as one line; leave all others, which are faults, their traceback."""
    sentence = sentence_of(innermost(error))
    if sentence is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"error: {sentence}", file=sys.stderr)


def finding(what: str, files: Sequence[str | Path], advice: str) -> str:
    """Return one paragraph of a message: how many files are at fault, the first of them, and what to do; "" for none."""
    if not files:
        return ""
    more = [f"… and {len(files) - NAMED_AT_MOST} more"] if len(files) > NAMED_AT_MOST else []
    return "\n  ".join([f"{len(files)} {what}:", *map(str, files[:NAMED_AT_MOST]), *more]) + f"\n{advice}"


def refuse(findings: Iterable[str], kind: type[ValueError] = ValueError) -> None:
    """Raise an error of all findings in one message, if there are any."""
    if message := "\n\n".join(filter(None, findings)):
        raise kind(message)
