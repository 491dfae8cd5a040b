"""The whole platform: three fleets with their front doors, opened in order and closed in reverse."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import replace
from pathlib import Path

import aiohttp

from ..ledger import sum_ledgers
from ..replica.spec import ReplicaSpec, ServiceConfig, Sizes
from .desired import room_for
from .fleet import Fleet, SpecFor
from .front_door import FrontDoor
from .instance import AdminClient
from .replica_process import Nursery
from .settings import PlatformSettings, name_port

_log = logging.getLogger("platform")
_ADMIN_TIMEOUT_S = 2.0


class Platform:
    """Owns the fleets and front doors. `data` holds the systems' shared state and the replicas' counts."""

    def __init__(self, settings: PlatformSettings, services: dict[str, ServiceConfig], data: Path) -> None:
        self._settings = settings
        self._services = services
        self._data = data
        self.fleets: dict[str, Fleet] = {}
        self._doors: dict[str, FrontDoor] = {}
        self._admin_session: aiohttp.ClientSession | None = None
        self._nursery = Nursery(has_tracing=settings.otlp_endpoint is not None)
        self.has_started = False

    async def start(self) -> None:
        """Open the front doors and begin to start the replicas. ConfigError when a port is taken."""
        self._admin_session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ADMIN_TIMEOUT_S))
        admin = AdminClient(self._admin_session)
        for service, config in self._services.items():
            fleet = self.fleets[service] = Fleet(service, config, admin, self._nursery, self._spec_for(service, config))
            door = self._doors[config.system] = FrontDoor(service, fleet.ready_instances)
            port = self._settings.front_door_port(config.system)
            with name_port(f"{config.system}_port", port):
                await door.start(port)
        for fleet in self.fleets.values():
            fleet.reconcile()

    async def wait_until_ready(self) -> None:
        """Until every service has its wanted replicas ready at the same time."""
        while not all(fleet.is_at_strength for fleet in self.fleets.values()):  # noqa: ASYNC110 - three states
            await asyncio.sleep(0.01)
        self.has_started = True
        for system, url in self.targets().items():
            _log.info("%s at %s", system, url)

    async def stop(self) -> None:
        """Close the front doors, then stop the replicas."""
        await asyncio.gather(*(door.stop() for door in self._doors.values()))
        await asyncio.gather(*(fleet.stop() for fleet in self.fleets.values()))
        await self._nursery.close()
        if self._admin_session is not None:
            await self._admin_session.close()

    def targets(self) -> dict[str, str]:
        """The front doors' URLs by system id."""
        return {system: door.url for system, door in self._doors.items()}

    def room(self, service: str) -> int:
        """How many more replicas of `service` its limit and the budget have room for."""
        wanted = [fleet.desired for fleet in self.fleets.values()]
        cpu_cores = sum(one.replicas * one.sizes.cpu_reserved_cores for one in wanted)
        memory_mib = sum(one.replicas * one.sizes.memory_reserved_mib for one in wanted)
        budget = self._settings
        return room_for(
            self.fleets[service].desired,
            math.inf if budget.cpu_cores is None else budget.cpu_cores - cpu_cores,
            math.inf if budget.memory_mib is None else budget.memory_mib - memory_mib,
        )

    def counts(self, run: str) -> dict[str, dict[str, int]]:
        """Requests of `run` per system and action, over every replica there has been."""
        return {system: sum_ledgers(sorted(self._data.glob(f"{system}.*.counts")), run) for system in self._doors}

    def _spec_for(self, service: str, config: ServiceConfig) -> SpecFor:
        settings = self._settings

        def spec_for(instance: str, ordinal: int, sizes: Sizes) -> ReplicaSpec:
            return ReplicaSpec(
                service=service,
                instance=instance,
                ordinal=ordinal,
                config=replace(config, sizes=sizes),
                peers=self.targets(),
                secret=settings.secret,
                password=settings.password,
                token_ttl_s=settings.token_ttl_s,
                data=str(self._data),
                otlp_endpoint=settings.otlp_endpoint,
            )

        return spec_for
