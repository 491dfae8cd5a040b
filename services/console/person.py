"""Who sits at the command line."""

import getpass


def who() -> str:
    """The user's name; empty where the machine does not know it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
