"""What cannot be processed goes to DEAD with its reason, up to a limit after which the collector stops.

The limit is there so that a wrong version or a broken sender ends in a loud stop with the stream intact, and not in a
stream emptied into DEAD.
"""

import asyncio
import base64
import logging
import random
from collections import deque
from datetime import UTC, datetime

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from services.collector import backoff
from shared import metrics
from shared.bus import Bus, publish_now
from shared.contracts.dead import DeadLetter
from shared.errors import TidegateError

SERVICE = "collector"
MAX_BODY_BYTES = 512 * 1024
"""Of the original; in base64 it still fits a message."""

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

    async def bury(self, *, subject: str, stream: str, sequence: int, body: bytes, reason: str) -> None:
        """Return when the letter is kept; the original may then be acknowledged. Raises ``TooManyDeadError``."""
        if not self._limit.admit(asyncio.get_running_loop().time()):
            raise TooManyDeadError(
                f"more than {self._limit.most} messages within {self._limit.span_s:g} s could not be processed; "
                f"the last is {stream} {sequence}: {reason}"
            )
        logger.error("%s %d on %s to DEAD: %s", stream, sequence, subject, reason)
        if len(body) > MAX_BODY_BYTES:
            reason = f"{reason} (only the first {MAX_BODY_BYTES} of {len(body)} bytes are kept)"
        letter = DeadLetter(
            service=SERVICE,
            environment=self._bus.subjects.environment,
            subject=subject,
            stream=stream,
            sequence=sequence,
            reason=reason,
            at=datetime.now(UTC),
            body=base64.b64encode(body[:MAX_BODY_BYTES]).decode(),
        )
        # A message that comes again because its acknowledgement was lost is one letter, not two.
        headers = {"Nats-Msg-Id": f"{stream}.{sequence}"}
        attempt = 0
        while True:
            try:
                await publish_now(
                    self._bus.js, self._bus.subjects.dead(SERVICE), letter.model_dump_json().encode(), headers
                )
            except (NatsError, APIError, TimeoutError) as error:
                attempt += 1
                logger.warning("DEAD did not take %s %d: %s", stream, sequence, error)
                await asyncio.sleep(backoff.delay_s(attempt, random.random()))
                continue
            metrics.DEAD_LETTERS.labels(SERVICE).inc()
            return
