"""Adapter of the stream WINDOWS: publishes the aggregates of committed frames and awaits the broker's word for each."""

import asyncio
import logging
import random
from collections.abc import Sequence
from operator import attrgetter

from nats.errors import Error as NatsError
from nats.js.api import PubAck
from nats.js.errors import APIError

from services.collector import backoff
from services.collector.windows import Measured, windows_of
from shared.bus import Bus
from shared.contracts.frame import FrameId

ACK_TIMEOUT_S = 5.0
AT_ONCE = 16
"""Frames whose windows are made in one go: enough to be cheap, few enough to keep nobody waiting."""
_ORDER = attrgetter("run", "worker", "epoch", "system", "seq")

logger = logging.getLogger(__name__)


class Announcer:
    """Publishes one ``FrameWindows`` per frame, by seq within a producer; all of a batch are in flight at once."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.problem = ""

    async def announce(self, frames: Sequence[Measured]) -> None:
        """Return when the broker keeps the windows of all of these; retries for as long as it does not."""
        left: list[tuple[FrameId, bytes]] = []
        ordered = sorted(frames, key=lambda measured: _ORDER(measured[0].id))
        for at in range(0, len(ordered), AT_ONCE):
            part = ordered[at : at + AT_ONCE]
            bodies = windows_of(part, self._bus.subjects.environment)
            left += zip((frame.id for frame, _ in part), bodies, strict=True)
            await asyncio.sleep(0)
        attempt = 0
        while left := await self._publish(left):
            attempt += 1
            await asyncio.sleep(backoff.delay_s(attempt, random.random()))
        self.problem = ""

    async def _publish(self, left: list[tuple[FrameId, bytes]]) -> list[tuple[FrameId, bytes]]:
        """Publish in this order; returns those that were not acknowledged."""
        kept: list[asyncio.Future[PubAck]] = []
        try:
            for frame, body in left:
                # One after the other into the connection, so that seq order holds; the answers are awaited together.
                kept.append(
                    await self._bus.js.publish_async(
                        self._bus.subjects.window(frame.run, frame.system),
                        body,
                        headers={"Nats-Msg-Id": message_id(frame)},
                    )
                )
            if kept:
                await asyncio.wait(kept, timeout=ACK_TIMEOUT_S)
        except (NatsError, APIError) as error:
            self._fail(error)
        failed = left[len(kept) :]
        for item, answer in zip(left, kept, strict=False):
            if not answer.done():
                answer.cancel()
                self._fail(TimeoutError(f"no acknowledgement within {ACK_TIMEOUT_S:g} s"))
                failed.append(item)
            elif (refusal := answer.exception()) is not None:
                self._fail(refusal)
                failed.append(item)
        return failed

    def _fail(self, error: BaseException) -> None:
        reason = " ".join(str(error).split()) or type(error).__name__
        if not self.problem:
            logger.warning("WINDOWS: %s", reason)
        self.problem = f"WINDOWS: {reason}"


def message_id(frame: FrameId) -> str:
    """The same for every publication of a frame's windows, so that the broker may drop a second one soon after."""
    return f"{frame.run}/{frame.worker}/{frame.epoch}/{frame.system}/{frame.seq}"
