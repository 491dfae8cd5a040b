"""What cannot be processed goes to DEAD with its reason, up to a limit after which the collector stops.

The limit is there so that a wrong version or a broken sender ends in a loud stop with the stream intact, and not in a
stream emptied into DEAD.
"""

import asyncio
import logging
import random
from collections import deque

from nats.errors import Error as NatsError
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
