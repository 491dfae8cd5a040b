"""Says once what fails, and once that it works again, however often it is tried meanwhile."""

import logging


class Complaints:
    """``miss`` and ``hit`` by a name that stays the same for one thing."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._silent: set[str] = set()

    def miss(self, what: str, error: object) -> None:
        if what not in self._silent:
            self._silent.add(what)
            self._logger.warning("%s: %s", what, " ".join(str(error).split()) or type(error).__name__)

    def hit(self, what: str) -> None:
        if what in self._silent:
            self._silent.discard(what)
            self._logger.info("%s: answers again", what)
