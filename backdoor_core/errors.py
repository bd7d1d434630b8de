"""The one exception that is meant for the person at the keyboard."""


class BackdoorError(Exception):
    """Something the user can put right: one line that says what is wrong, where, and what would be right.

    The command line prints the message and exits with status 1, without a traceback. Every other
    exception is a defect of this program and keeps its traceback.
    """
