"""One replica as the supervisor knows it, and the supervisor's calls to its admin door."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import aiohttp

from ..replica.spec import Fault, Sizes
from .replica_process import ReplicaProcess

State = Literal["starting", "ready", "draining", "unhealthy"]


@dataclass(eq=False)
class Instance:
    """A replica with its state. `outstanding` is the front door's count of unanswered requests.

    `deaths`: how many before it, each in the place of the last, ended soon after they had started.
    """

    id: str
    process: ReplicaProcess
    started_at: float
    sizes: Sizes
    deaths: int = 0
    state: State = "starting"
    url: str = ""
    outstanding: int = 0
    failed_checks: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "url": self.url,
            "pid": self.process.pid,
            "state": self.state,
            "started_at": self.started_at,
            "sizes": asdict(self.sizes),
        }


class AdminClient:
    """Calls to replicas' admin doors. A replica that does not answer is a plain no, never an error."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def is_healthy(self, instance: Instance) -> bool:
        """Whether `GET /health` answers 200."""
        try:
            async with self._session.get(f"{instance.url}/health") as response:
                await response.read()
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def is_idle(self, instance: Instance) -> bool:
        """Whether nothing is being answered and no work goes on behind an answer."""
        try:
            async with self._session.get(f"{instance.url}/admin/load") as response:
                load = await response.json()
                return not load["in_flight"] and not load["background"]
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False

    async def set_fault(self, instance: Instance, fault: Fault) -> bool:
        """Whether the replica took the fault."""
        return await self._post(instance, "/admin/fault", asdict(fault))

    async def fail_orphans(self, instance: Instance, of: str) -> bool:
        """Have `instance` mark what the dead replica `of` was working on as failed."""
        return await self._post(instance, "/admin/orphans", {"instance": of})

    async def _post(self, instance: Instance, path: str, body: dict[str, Any]) -> bool:
        try:
            async with self._session.post(f"{instance.url}{path}", json=body) as response:
                await response.read()
                return response.status < 300
        except (aiohttp.ClientError, TimeoutError):
            return False
