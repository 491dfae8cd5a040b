"""Adapter of the platform's metrics: discovers its instances and scrapes each; ``samples.py`` reads the numbers."""

import asyncio
import logging
import socket
import time
from dataclasses import dataclass

import aiohttp
from pydantic import TypeAdapter, ValidationError

from services.collector.complaints import Complaints
from services.collector.samples import ResourceMap, Scrape, read_scrape, values_of
from services.collector.source import Seen
from services.collector.source_config import DnsRule, PlatformSpec
from shared.contracts.base import Message
from shared.errors import BadMessageError, TransientError

LEASE_KEY = "scraper"

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


class Platform:
    """A ``Source``. An instance that does not answer is left out and logged once, until it does."""

    def __init__(self, spec: PlatformSpec, url: str | None, resource_map: ResourceMap) -> None:
        self.name = spec.title
        self._discovery_url = None if url is None else f"{url.rstrip('/')}/sd"
        self._dns = spec.dns
        self._timeout_s = spec.timeout_s
        self._map = resource_map
        self._session: aiohttp.ClientSession | None = None
        self._before: dict[Target, Scrape] = {}
        self._complaints = Complaints(logger)

    async def lease_key(self) -> str:
        """One of an environment does it, wherever it runs."""
        return LEASE_KEY if self.name == "platform" else f"{LEASE_KEY}.{self.name}"

    async def read(self) -> list[Seen]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout_s))
        session, url = self._session, self._discovery_url
        targets = await (self._resolve() if url is None else self._discover(session, url))
        found = await asyncio.gather(*(self._scrape(session, target) for target in targets))
        self._before = {target: scrape for target, scrape in self._before.items() if target in targets}
        return [seen for seen in found if seen is not None]

    def forget(self) -> None:
        self._before.clear()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _resolve(self) -> list[Target]:
        """What DNS has for each name; one that it does not know has no replica that is ready."""
        return [target for found in await asyncio.gather(*map(self._addresses, self._dns)) for target in found]

    async def _addresses(self, rule: DnsRule) -> list[Target]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await loop.getaddrinfo(rule.name, rule.port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError) as error:
            self._complaints.miss(rule.name, error)
            return []
        self._complaints.hit(rule.name)
        labels = Labels(service=rule.service, system=rule.system)
        hosts = sorted({str(address[0]) for *_, address in found})
        return [Target(f"[{host}]:{rule.port}" if ":" in host else f"{host}:{rule.port}", labels) for host in hosts]

    async def _discover(self, session: aiohttp.ClientSession, url: str) -> list[Target]:
        try:
            async with session.get(url) as response:
                response.raise_for_status()
                groups = _GROUPS.validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValidationError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise TransientError(f"{url}: {reason}") from error
        return [Target(address, group.labels) for group in groups for address in group.targets]

    async def _scrape(self, session: aiohttp.ClientSession, target: Target) -> Seen | None:
        url = f"http://{target.address}/metrics"
        try:
            async with session.get(url) as response:
                response.raise_for_status()
                after = read_scrape(await response.text(), time.monotonic())
        except (aiohttp.ClientError, TimeoutError, BadMessageError, UnicodeDecodeError) as error:
            self._complaints.miss(url, error)
            return None
        self._complaints.hit(url)
        before, self._before[target] = self._before.get(target), after
        values = values_of(self._map, before, after)
        return Seen(target.labels.service, target.labels.system, target.instance, values)
