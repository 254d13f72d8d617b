"""Refused work, and the words that a user reads about it."""

import pytest

from strokelesion.networks import UserError
from strokelesion.pipeline.runtime.errors import user_error


def refusal(work, *arguments, **options):
    """Return what a user reads of work that is refused; MONAI wraps errors of what it builds in RuntimeError."""
    with pytest.raises((RuntimeError, UserError)) as error:
        work(*arguments, **options)
    said = user_error(error.value)
    assert said is not None, error.value
    return str(said)
