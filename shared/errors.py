"""Whose fault an error is stands in its type; the edges turn types into exit codes, retries and dead letters."""


class TidegateError(Exception):
    """Base of every error raised on purpose."""


class ConfigError(TidegateError):
    """The user's input is wrong: one line naming field, value and what would be right; exit code 2."""


class BadMessageError(TidegateError):
    """A message cannot be processed however often it comes: it belongs to DEAD, with this reason."""


class TransientError(TidegateError):
    """Another system failed for now: retry with a cap and jitter."""
