"""What a check of the doctor reports about one file."""

from typing import NamedTuple


class Issue(NamedTuple):
    """Issue of a file, with advice.

    Attributes:
        file: Path of the file.
        what: Words for the issue. It continues a sentence that starts with the file name, without a full stop.
        advice: Advice in full sentences.
    """

    file: str
    what: str
    advice: str
