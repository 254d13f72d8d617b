"""Why a sample is refused, in parts: the file, what is wrong with it and what to do. As text it is one message."""

from typing import Any

from monai.data import MetaTensor

from strokelesion.networks import UserError


class SampleError(UserError):
    """A sample that cannot be used.

    Attributes:
        source: the file, or what the message calls it.
        what: what is wrong with it, and what is expected instead; without a full stop.
        advice: what to do, as sentences.
    """

    def __init__(self, source: str, what: str, advice: str) -> None:
        super().__init__(f"{source} {what}. {advice}")
        self.source = source
        self.what = what
        self.advice = advice


def source_of(array: Any, otherwise: str = "a mask") -> str:
    """Return the file that an array was loaded from, for messages, or what else to call it."""
    return str(array.meta.get("filename_or_obj", otherwise)) if isinstance(array, MetaTensor) else otherwise
