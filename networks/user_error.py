"""The one kind of error that is raised on purpose for a user to read; every other exception is a fault and keeps its traceback.

It is defined in the lowest layer, so that every layer can raise it.
"""


class UserError(ValueError):
    """Something that the user gave and can correct.

    The message says what came, what is allowed and what to do. `python -m monai.bundle run` prints it as one line and ends
    with `exit_status`.
    """

    exit_status = 1


class CommandLineError(UserError):
    """A wrong command, option or value."""

    exit_status = 2
