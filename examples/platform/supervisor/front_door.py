"""The front door of one service: a small HTTP reverse proxy to the ready replica with the least outstanding requests.

It passes bytes on as they come and reads only the heads: far less CPU than parsing and rebuilding each message, which
matters where everything shares two cores. A request is tried on a second replica only when the first cannot have
acted on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from .balance import LeastOutstanding
from .exchange import Caller
from .instance import Instance
from .upstream import UpstreamPool

_STOP_DEADLINE_S = 0.5


class FrontDoor:
    """Listens on loopback for one service. `ready` gives the replicas that may be used at the moment."""

    def __init__(self, service: str, ready: Callable[[], Sequence[Instance]]) -> None:
        self.service = service
        self._ready = ready
        self._balance = LeastOutstanding()
        self._server: asyncio.Server | None = None
        self.callers: set[Caller] = set()
        self.pool = UpstreamPool()
        self.url = ""

    async def start(self, port: int) -> None:
        """Listen on `port`, or a free one when it is 0. OSError when it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Caller(self), "127.0.0.1", port, backlog=1024)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Stop listening; what is being answered gets half a second."""
        if self._server is not None:
            self._server.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _STOP_DEADLINE_S
        while any(caller.is_waiting for caller in self.callers) and loop.time() < deadline:  # noqa: ASYNC110 - bounded
            await asyncio.sleep(0.02)
        for caller in list(self.callers):
            caller.abort()
        self.pool.close()

    def choose(self, tried: Sequence[Instance]) -> Instance | None:
        """The replica for the next attempt at a request that has been tried on `tried`."""
        return self._balance.choose([one for one in self._ready() if one not in tried])
