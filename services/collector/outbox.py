"""Where samples go: RESOURCES at once, the store when it can. Neither waits for the other."""

import asyncio
import logging
import random
from collections.abc import Sequence

import psycopg
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from services.collector import backoff
from services.collector.complaints import Complaints
from services.collector.timescale import Timescale
from shared import metrics
from shared.bus import Bus, publish_now
from shared.contracts.resource import ResourceSample
from shared.errors import TransientError
from shared.store.samples import save_samples
from shared.subjects import token

KEEP_MOST = 10_000
"""Samples that wait for a store that is away; beyond it the oldest are dropped."""

logger = logging.getLogger(__name__)


class Outbox:
    """Shared by all sources of a collector."""

    def __init__(self, bus: Bus, store: Timescale) -> None:
        self._bus = bus
        self._store = store
        self._complaints = Complaints(logger)
        self._unsaved: list[ResourceSample] = []
        self._arrived = asyncio.Event()

    async def send(self, samples: Sequence[ResourceSample]) -> None:
        """Publish, and leave for the store. What NATS does not take is not tried again: a sample is about now."""
        if not samples:
            return
        self._unsaved = [*self._unsaved, *samples][-KEEP_MOST:]
        self._arrived.set()
        if not self._bus.connected:
            self._complaints.miss("RESOURCES", "NATS is not connected")
            return
        try:
            await asyncio.gather(*(self._publish(sample) for sample in samples))
        except (NatsError, APIError, TimeoutError) as error:
            self._complaints.miss("RESOURCES", error)
        else:
            self._complaints.hit("RESOURCES")

    async def write(self) -> None:
        """Store what waits, until cancelled; while the store is away it is tried again and again."""
        attempt = 0
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            samples, self._unsaved = self._unsaved, []
            try:
                async with self._store.transaction() as connection:
                    await save_samples(connection, samples)
            except TransientError:
                attempt += 1
                self._unsaved = [*samples, *self._unsaved][-KEEP_MOST:]
                self._arrived.set()
                await asyncio.sleep(backoff.delay_s(attempt, random.random()))
            except psycopg.DataError as error:
                logger.error("%d samples dropped, the store cannot hold them: %s", len(samples), error)  # noqa: TRY400
            else:
                attempt = 0
                metrics.SAMPLES_STORED.inc(len(samples))

    async def _publish(self, sample: ResourceSample) -> None:
        subject = self._bus.subjects.resource(token(sample.service))
        await publish_now(self._bus.js, subject, sample.model_dump_json().encode())
