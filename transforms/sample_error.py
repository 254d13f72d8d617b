"""Error for a refused sample, in three parts (file, problem, advice) that form one message."""

from typing import Any

from monai.data import MetaTensor

from strokelesion.networks import UserError


class SampleError(UserError):
    """Error for a sample that cannot be used.

    Attributes:
        source: File, or another name for the sample.
        what: Problem and expected state, without a full stop.
        advice: Advice to the user, in full sentences.
    """

    def __init__(self, source: str, what: str, advice: str) -> None:
        super().__init__(f"{source} {what}. {advice}")
        self.source = source
        self.what = what
        self.advice = advice


def source_of(array: Any, otherwise: str = "a mask") -> str:
    """Return the file that an array was loaded from, or `otherwise` if that is unknown; used in messages."""
    return str(array.meta.get("filename_or_obj", otherwise)) if isinstance(array, MetaTensor) else otherwise
