"""The one exception that is meant for the person at the keyboard, and all others in a line."""


class BackdoorError(Exception):
    """Something the user can put right: one line that says what is wrong, where, and what would be right.

    The command line prints the message and exits with status 1, without a traceback. Every other
    exception is a defect of this program and keeps its traceback.
    """


def in_a_line(error: BaseException) -> str:
    """What an error says; with its kind where it was not written for the user."""
    text = " ".join(str(error).split())
    return text if isinstance(error, BackdoorError) else f"{type(error).__name__}: {text}"
