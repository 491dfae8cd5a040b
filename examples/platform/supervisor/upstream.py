"""The front door's connections to replicas: in use by one exchange, or idle and ready for the next."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

from .instance import Instance

if TYPE_CHECKING:
    from .exchange import Exchange

_IDLE_FOR_S = 60.0  # below the replicas' 75 s, so a connection is not used while its replica closes it


class Upstream(asyncio.Protocol):
    """A connection to a replica, in use by one exchange or idle in the pool."""

    def __init__(self, pool: UpstreamPool, instance: Instance) -> None:
        self._pool = pool
        self.instance = instance
        self.transport: asyncio.Transport
        self.exchange: Exchange | None = None
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.exchange is None:
            self.transport.abort()  # a replica that speaks unasked is out of step
        else:
            self.exchange.take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        if self.exchange is not None:
            self.exchange.lose()


class UpstreamPool:
    """Idle connections per replica; the one used last is used first."""

    def __init__(self) -> None:
        self._idle: dict[Instance, list[Upstream]] = {}

    def take(self, instance: Instance) -> Upstream | None:
        """An idle connection to `instance`, or None."""
        idle = self._idle.get(instance, [])
        while idle:
            upstream = idle.pop()
            if time.monotonic() - upstream.idle_since < _IDLE_FOR_S:
                return upstream
            upstream.transport.close()
        return None

    def give(self, upstream: Upstream) -> None:
        """Keep a connection that is free again."""
        upstream.idle_since = time.monotonic()
        self._idle.setdefault(upstream.instance, []).append(upstream)

    def forget(self, upstream: Upstream) -> None:
        """Drop a connection that is closed."""
        idle = self._idle.get(upstream.instance)
        if idle is not None and upstream in idle:
            idle.remove(upstream)
            if not idle:
                del self._idle[upstream.instance]

    def close(self) -> None:
        for idle in list(self._idle.values()):
            for upstream in list(idle):
                upstream.transport.abort()
