"""Keep the memory of a process small between the steps of its work."""

import ctypes
from contextlib import suppress


def return_freed_memory() -> None:
    """Return freed memory to the system where the C library is glibc, which keeps 0.25 GiB of it after a network."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
