"""Adapter of a Docker Swarm: a replicated service, changed by compare-and-set on the version of its specification.

The epoch stands in a label of the service, so it is written together with what it guards: of two scalers that have read
the same version one is refused, reads again, and finds the other's epoch. What the specification says, and becomes, is
``swarm_service``.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from docker.errors import APIError

from services.scaler.situation import Observation, Sizes
from services.scaler.targets.engine import EngineConnection, post
from services.scaler.targets.swarm_room import room
from services.scaler.targets.swarm_service import observation, sizes_of, with_replicas, with_sizes
from shared.errors import TransientError

CONFLICTS = 5
OUT_OF_SEQUENCE = "update out of sequence"

Change = Callable[[Mapping[str, Any]], dict[str, Any] | None]


class SwarmTarget:
    """One service of the Swarm that the engine manages. ``name``: the service's there, whatever the rules call it."""

    dry_run = False

    def __init__(self, engine: EngineConnection, name: str | None = None) -> None:
        self._engine = engine
        self._name = name

    async def observe(self, service: str) -> Observation:
        def look(client: Any) -> Observation:
            found = client.inspect_service(self._name or service)
            return observation(found, client.tasks({"service": found["ID"]}), time.time())

        return await self._engine.ask(look)

    async def room(self, service: str) -> int | None:
        def look(client: Any) -> int | None:
            found = client.inspect_service(self._name or service)
            return room(found, client.nodes(), client.tasks({"desired-state": "running"}))

        return await self._engine.ask(look)

    async def sizes(self, service: str) -> Sizes:
        return await self._engine.ask(lambda client: sizes_of(client.inspect_service(self._name or service)))

    async def set_sizes(self, service: str, sizes: Sizes, epoch: int, decision: str) -> None:
        await self._change(service, lambda found: with_sizes(found, sizes, epoch, decision))

    async def set_replicas(self, service: str, replicas: int, epoch: int, decision: str) -> None:
        await self._change(service, lambda found: with_replicas(found, replicas, epoch, decision))

    async def _change(self, service: str, change: Change) -> None:
        """Read, change, write if nobody wrote in between; else again from what they wrote."""

        def write(client: Any) -> None:
            for _ in range(CONFLICTS):
                found = client.inspect_service(self._name or service)
                spec = change(found)
                if spec is None:
                    return
                try:
                    post(client, f"/services/{found['ID']}/update", spec, version=found["Version"]["Index"])
                except APIError as error:
                    if OUT_OF_SEQUENCE not in str(error.explanation):
                        raise
                else:
                    return
            raise TransientError(f"{service}: others changed the service {CONFLICTS} times in a row")

        await self._engine.ask(write, acting=True)
