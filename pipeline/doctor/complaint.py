"""What a check says of a file."""

from typing import NamedTuple


class Complaint(NamedTuple):
    """The file, what is wrong with it, and what to do.

    Attributes:
        file: its path.
        what: goes on from the file's name, without a full stop.
        advice: as sentences.
    """

    file: str
    what: str
    advice: str
