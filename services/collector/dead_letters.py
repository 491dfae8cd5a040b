"""What cannot be processed goes to DEAD with its reason, up to a limit after which the collector stops.

The limit is there so that a wrong version or a broken sender ends in a loud stop with the stream intact, and not in a
stream emptied into DEAD.
"""

import asyncio
import logging
import random
from collections import deque
from datetime import UTC, datetime, timedelta

from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from services.collector import backoff
from shared.bus import Bus
from shared.dead_letters import bury
from shared.errors import TidegateError

SERVICE = "collector"

logger = logging.getLogger(__name__)


class TooManyDeadError(TidegateError):
    """More messages than the limit could not be processed: something is wrong that dead letters do not cure."""


class DeadLimit:
    """At most ``most`` in any ``span_s`` seconds. ``now`` is in seconds of one monotonic clock."""

    def __init__(self, most: int, span_s: float = 60.0) -> None:
        self.most = most
        self.span_s = span_s
        self._times: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Count one; False when it is one too many (it is then not counted)."""
        while self._times and now - self._times[0] >= self.span_s:
            self._times.popleft()
        if len(self._times) >= self.most:
            return False
        self._times.append(now)
        return True


class DeadLetters:
    """Publishes to DEAD and waits for the broker's acknowledgement, however long that takes."""

    def __init__(self, bus: Bus, limit: DeadLimit) -> None:
        self._bus = bus
        self._limit = limit

    async def recall(self) -> None:
        """Count what went to DEAD lately, as if just now: a process that is started again has no new limit."""
        since = datetime.now(UTC) - timedelta(seconds=self._limit.span_s)
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_TIME,
            opt_start_time=since,
            filter_subject=self._bus.subjects.dead(SERVICE),
            ack_policy=AckPolicy.NONE,
            inactive_threshold=5.0,
        )
        try:
            found = await self._bus.js.add_consumer(self._bus.subjects.stream("DEAD"), config)
        except (NatsError, APIError, TimeoutError) as error:
            logger.warning("DEAD does not tell what it took lately: %s", error)
            return
        now = asyncio.get_running_loop().time()
        for _ in range(min(found.num_pending or 0, self._limit.most)):
            self._limit.admit(now)

    async def bury(self, *, subject: str, stream: str, sequence: int, body: bytes, reason: str) -> None:
        """Return when the letter is kept; the original may then be acknowledged. Raises ``TooManyDeadError``."""
        if not self._limit.admit(asyncio.get_running_loop().time()):
            raise TooManyDeadError(
                f"more than {self._limit.most} messages within {self._limit.span_s:g} s could not be processed; "
                f"the last is {stream} {sequence}: {reason}"
            )
        attempt = 0
        while True:
            try:
                await bury(
                    self._bus, SERVICE, subject=subject, stream=stream, sequence=sequence, body=body, reason=reason
                )
            except (NatsError, APIError, TimeoutError) as error:
                attempt += 1
                logger.warning("DEAD did not take %s %d: %s", stream, sequence, error)
                await asyncio.sleep(backoff.delay_s(attempt, random.random()))
                continue
            return
