"""Reads one source at its interval while this process holds the source's lease. A source that fails stops no other."""

import asyncio
import logging
import time
import uuid
from datetime import UTC, datetime

from services.collector.complaints import Complaints
from services.collector.outbox import Outbox
from services.collector.source import Source
from shared import metrics
from shared.bus import Bus
from shared.contracts.resource import ResourceSample
from shared.errors import BadMessageError, TransientError
from shared.leadership import keep
from shared.lease import Lease
from shared.service import end_all

RETRY_S = 5.0
"""Between two tries to find out what a source would read, such as which engine answers."""

logger = logging.getLogger(__name__)


class Sampler:
    """``run`` until cancelled; closes the source then."""

    def __init__(self, source: Source, bus: Bus, outbox: Outbox, every_s: float) -> None:
        self._source = source
        self._bus = bus
        self._outbox = outbox
        self._every_s = every_s
        self._complaints = Complaints(logger)

    async def run(self) -> None:
        try:
            lease = Lease(await self._bus.bucket("leases"), await self._find_key())
            keeper = asyncio.ensure_future(keep(lease, f"collector-{uuid.uuid4().hex}".encode()))
            try:
                await self._read_while_held(lease, keeper)
            finally:
                await end_all([keeper])
                await lease.release()
        finally:
            await self._source.close()

    async def _find_key(self) -> str:
        while True:
            try:
                return await self._source.lease_key()
            except TransientError as error:
                self._fail(error)
                await asyncio.sleep(RETRY_S)

    async def _read_while_held(self, lease: Lease, keeper: asyncio.Future[None]) -> None:
        while True:
            began = time.monotonic()
            if lease.held:
                await self._read()
            else:
                self._source.forget()
            await asyncio.sleep(max(0.0, began + self._every_s - time.monotonic()))
            if keeper.done():
                keeper.result()

    async def _read(self) -> None:
        try:
            seen = await self._source.read()
        except (TransientError, BadMessageError) as error:
            self._fail(error)
            return
        self._complaints.hit(self._source.name)
        metrics.SOURCE_UP.labels(self._source.name).set(1)
        at = datetime.now(UTC)
        samples = [
            ResourceSample(
                service=one.service,
                system=one.system,
                environment=self._bus.subjects.environment,
                instance=one.instance,
                at=at,
                ready=one.ready,
                values=one.values,
            )
            for one in seen
        ]
        metrics.SAMPLES_TAKEN.labels(self._source.name).inc(len(samples))
        await self._outbox.send(samples)

    def _fail(self, error: Exception) -> None:
        metrics.SOURCE_UP.labels(self._source.name).set(0)
        self._complaints.miss(self._source.name, error)
