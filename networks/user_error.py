"""Errors whose message is written for the user. Every other exception is a bug and keeps its traceback.

The classes are defined in the lowest layer so that every layer can raise them.
"""


class UserError(ValueError):
    """Wrong input that the user can correct.

    The message says what was given, what is allowed and what to do. `python -m monai.bundle run` prints it as one line and ends
    with `exit_status`.
    """

    exit_status = 1


class CommandLineError(UserError):
    """A wrong command, option or value."""

    exit_status = 2
