"""The one exception that a user is meant to see, and how others are quoted in it."""


class InputError(Exception):
    """What a user gave is wrong: one line that names the file, the key or row, what was expected and what to do.

    The command line prints it after ``error:`` and exits with status 2; every other exception is a bug.
    """


def reason(error: Exception) -> str:
    """The first line of an exception's text, without its full stop; its type where it has none."""
    return next(iter(str(error).strip().splitlines()), "").rstrip(". ") or type(error).__name__
