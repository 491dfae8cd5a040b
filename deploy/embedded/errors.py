"""The one error of the embedded stack: a single line that names the thing and the way out."""

from shared.errors import ConfigError


class StackError(ConfigError):
    """The embedded stack cannot do what was asked; command-line doors print it and exit 2."""
