"""Which replica gets the next request: the one with the least outstanding, ties in turn. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Backend(Protocol):
    outstanding: int


B = TypeVar("B", bound=Backend)


class LeastOutstanding:
    """Remembers only where its last round ended."""

    def __init__(self) -> None:
        self._turn = 0

    def choose(self, backends: Sequence[B]) -> B | None:
        """The backend with the least outstanding requests, or None when there is none."""
        if not backends:
            return None
        least = min(backend.outstanding for backend in backends)
        count = len(backends)
        for step in range(count):
            index = (self._turn + step) % count
            if backends[index].outstanding == least:
                self._turn = (index + 1) % count
                return backends[index]
        raise AssertionError("a minimum is always found")
