"""Whose fault an error is stands in its type; the edges turn types into exit codes, retries and dead letters."""

import difflib
from collections.abc import Iterable


class TidegateError(Exception):
    """Base of every error raised on purpose."""


class ConfigError(TidegateError):
    """The user's input is wrong: one line naming field, value and what would be right; exit code 2."""


class WrongFieldError(ValueError):
    """Raised by a contract that looks at several fields: ``fields`` lead from it to the one that is to be changed."""

    def __init__(self, message: str, *fields: str | int) -> None:
        super().__init__(message)
        self.fields = fields


class BadMessageError(TidegateError):
    """A message cannot be processed however often it comes: it belongs to DEAD, with this reason."""


class TransientError(TidegateError):
    """Another system failed for now: retry with a cap and jitter."""


def closest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` where a known name is near, else nothing."""
    names = list(known)
    begun = [candidate for candidate in names if len(name) > 1 and candidate.startswith(name)]
    near = begun or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def among(name: str, known: Iterable[str]) -> str:
    """The end of a sentence on a name that is not known: which one is near, and all there are."""
    names = list(known)
    return closest(name, names) + (f"; there are {', '.join(names)}" if names else "")
