"""Adapter of the platform's metrics: discovers its instances, scrapes each, publishes and stores what they tell.

One collector of an environment does it, by the lease ``scraper``. What becomes of the numbers is in ``samples.py``.
"""

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
from nats.errors import Error as NatsError
from nats.js.errors import APIError
from pydantic import TypeAdapter, ValidationError

from services.collector.samples import ResourceMap, Scrape, read_scrape, values_of
from services.collector.timescale import Timescale
from shared.bus import Bus, publish_now
from shared.contracts.base import Message
from shared.contracts.resource import ResourceSample
from shared.errors import BadMessageError, TransientError
from shared.leadership import keep
from shared.lease import Lease
from shared.store.spans import save_samples

LEASE_KEY = "scraper"
TIMEOUT_S = 2.0
KEEP_MOST = 10_000
"""Samples that wait for a store that is away; beyond it the oldest are dropped."""

logger = logging.getLogger(__name__)


class Labels(Message):
    service: str
    system: str
    instance: str = ""


class TargetGroup(Message):
    """One group of a Prometheus HTTP service discovery answer."""

    targets: tuple[str, ...]
    labels: Labels


_GROUPS = TypeAdapter(list[TargetGroup])


@dataclass(frozen=True, slots=True)
class Target:
    address: str
    labels: Labels

    @property
    def instance(self) -> str:
        return self.labels.instance or self.address


class Scraper:
    """``run`` until cancelled. A platform or target that does not answer is skipped and logged once, until it does."""

    def __init__(
        self, bus: Bus, store: Timescale, platform_url: str, resource_map: ResourceMap, interval_s: float
    ) -> None:
        self._bus = bus
        self._store = store
        self._discovery_url = f"{platform_url.rstrip('/')}/sd"
        self._map = resource_map
        self._interval_s = interval_s
        self._before: dict[Target, Scrape] = {}
        self._silent: set[str] = set()
        self._unsaved: list[ResourceSample] = []

    async def run(self) -> None:
        lease = Lease(await self._bus.bucket("leases"), LEASE_KEY)
        holder = f"collector-{uuid.uuid4().hex}".encode()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
            keeper = asyncio.ensure_future(keep(lease, holder))
            try:
                while True:
                    began = time.monotonic()
                    if lease.held:
                        await self._scrape_all(session)
                    else:
                        self._before.clear()
                    await asyncio.sleep(max(0.0, began + self._interval_s - time.monotonic()))
                    if keeper.done():
                        keeper.result()
            finally:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
                await lease.release()

    async def _scrape_all(self, session: aiohttp.ClientSession) -> None:
        targets = await self._discover(session)
        found = await asyncio.gather(*(self._scrape(session, target) for target in targets))
        samples = [sample for sample in found if sample is not None]
        self._before = {target: scrape for target, scrape in self._before.items() if target in targets}
        await self._publish(samples)
        await self._save(samples)

    async def _discover(self, session: aiohttp.ClientSession) -> list[Target]:
        try:
            async with session.get(self._discovery_url) as response:
                response.raise_for_status()
                groups = _GROUPS.validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValidationError) as error:
            self._miss(self._discovery_url, error)
            return []
        self._hit(self._discovery_url)
        return [Target(address, group.labels) for group in groups for address in group.targets]

    async def _scrape(self, session: aiohttp.ClientSession, target: Target) -> ResourceSample | None:
        url = f"http://{target.address}/metrics"
        try:
            async with session.get(url) as response:
                response.raise_for_status()
                after = read_scrape(await response.text(), time.monotonic())
        except (aiohttp.ClientError, TimeoutError, BadMessageError, UnicodeDecodeError) as error:
            self._miss(url, error)
            return None
        self._hit(url)
        before, self._before[target] = self._before.get(target), after
        return ResourceSample(
            service=target.labels.service,
            system=target.labels.system,
            environment=self._bus.subjects.environment,
            instance=target.instance,
            at=datetime.now(UTC),
            values=values_of(self._map, before, after),
        )

    async def _publish(self, samples: list[ResourceSample]) -> None:
        if not self._bus.connected:
            # A sample is about now; published once NATS is back it would mislead.
            self._miss("RESOURCES", "NATS is not connected")
            return
        try:
            await asyncio.gather(
                *(
                    publish_now(
                        self._bus.js, self._bus.subjects.resource(sample.service), sample.model_dump_json().encode()
                    )
                    for sample in samples
                )
            )
        except (NatsError, APIError, TimeoutError) as error:
            self._miss("RESOURCES", error)
        else:
            self._hit("RESOURCES")

    async def _save(self, samples: list[ResourceSample]) -> None:
        self._unsaved = [*self._unsaved, *samples][-KEEP_MOST:]
        if not self._unsaved:
            return
        try:
            async with self._store.transaction() as connection:
                await save_samples(connection, self._unsaved)
        except TransientError:
            return
        self._unsaved = []

    def _miss(self, what: str, error: object) -> None:
        if what not in self._silent:
            self._silent.add(what)
            logger.warning("%s: %s", what, " ".join(str(error).split()) or type(error).__name__)

    def _hit(self, what: str) -> None:
        if what in self._silent:
            self._silent.discard(what)
            logger.info("%s: answers again", what)
