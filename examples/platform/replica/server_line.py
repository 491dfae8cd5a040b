"""A bounded number of servers and the line before them, first come first served. Pure: no clock, no tasks."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class ServerLine(Generic[T]):
    """At most `servers` tickets are served at once; the others wait in the order they came."""

    def __init__(self, servers: int) -> None:
        if servers < 1:
            raise ValueError(f"servers: {servers} is below 1")
        self.servers = servers
        self.busy = 0
        self._waiting: deque[T] = deque()

    @property
    def queue_length(self) -> int:
        """Tickets waiting, those being served not counted."""
        return len(self._waiting)

    def arrive(self, ticket: T) -> bool:
        """True when `ticket` is served at once; otherwise it waits at the end of the line."""
        if self.busy < self.servers:
            self.busy += 1
            return True
        self._waiting.append(ticket)
        return False

    def leave(self) -> T | None:
        """Free one server. The ticket that takes it over, or None when the line is empty."""
        if self._waiting:
            return self._waiting.popleft()
        self.busy -= 1
        return None

    def abandon(self, ticket: T) -> None:
        """A waiting ticket goes away without being served; nothing changes when it is not waiting."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
