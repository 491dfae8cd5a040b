"""Tells the aggregates of named spans on ``span.<system>``, twice a second, each message until the broker has it."""

import asyncio
import logging
import random
import uuid
from collections import deque

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from services.collector import backoff
from services.collector.complaints import Complaints
from services.collector.span_tally import SpanTally
from shared.bus import Bus, publish_now
from shared.contracts.span_window import SpanWindows

EVERY_S = 0.5
KEEP_MOST = 1_000
"""Messages that wait for a broker that is away; beyond it the oldest are dropped: they are about a time long past."""

logger = logging.getLogger(__name__)


class SpanAnnouncer:
    """One per collector. Numbers ascend, so a reader knows a message that was published twice."""

    def __init__(self, bus: Bus, tally: SpanTally) -> None:
        self._bus, self._tally = bus, tally
        self._name = uuid.uuid4().hex
        self._seq = 1
        self._waiting: deque[SpanWindows] = deque(maxlen=KEEP_MOST)
        self._complaints = Complaints(logger)

    async def announce(self) -> None:
        """Until cancelled."""
        attempt = 0
        while True:
            told = self._tally.take(self._bus.subjects.environment, self._name, self._seq)
            self._seq += len(told)
            self._waiting.extend(told)
            try:
                while self._waiting:
                    await self._publish(self._waiting[0])
                    self._waiting.popleft()
            except (NatsError, APIError, TimeoutError) as error:
                attempt += 1
                self._complaints.miss("spans", error)
                await asyncio.sleep(backoff.delay_s(attempt, random.random()))
            else:
                attempt = 0
                self._complaints.hit("spans")
                await asyncio.sleep(EVERY_S)

    async def _publish(self, windows: SpanWindows) -> None:
        headers = {"Nats-Msg-Id": f"{windows.collector}/{windows.seq}"}
        subject = self._bus.subjects.span(windows.system)
        await publish_now(self._bus.js, subject, windows.model_dump_json().encode(), headers)
