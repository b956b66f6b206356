"""The one error that users are meant to read."""


class CardlineError(Exception):
    """What is wrong, where, and what to do, in one line. The CLI prints it and exits with 1."""


INTERRUPTED = "error: interrupted; run the command again to go on"
"""The last words of a command that an interrupt ends."""
