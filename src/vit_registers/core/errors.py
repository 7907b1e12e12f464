"""The one exception that a user is meant to see."""


class InputError(Exception):
    """What a user gave is wrong: one line that names the file, the key or row, what was expected and what to do.

    The command line prints it after ``error:`` and exits with status 2; every other exception is a bug.
    """
