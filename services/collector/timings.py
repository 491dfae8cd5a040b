"""Adapter of the stream TIMINGS: the shared durable consumer, its pulls, acknowledgements and deadlines.

All collectors pull from one consumer, so each frame goes to one of them at a time; a frame that is not acknowledged
within the consumer's ``ack_wait`` goes to any of them again, without limit.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MsgAlreadyAckdError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import APIError

from shared.bus import Bus

CONSUMER = "collector"
FETCH_MOST = 64
RETRY_S = 0.5

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Delivery:
    """One message in hand. ``extended_at``: monotonic seconds when its deadline last began anew."""

    msg: Msg
    extended_at: float

    @property
    def data(self) -> bytes:
        return bytes(self.msg.data)

    @property
    def sequence(self) -> int:
        return int(self.msg.metadata.sequence.stream)


class Timings:
    """Pulls from the durable consumer, made anew when the broker has lost it."""

    def __init__(self, bus: Bus, *, ack_wait_s: float, max_ack_pending: int) -> None:
        self._bus = bus
        self._stream = bus.subjects.stream("TIMINGS")
        self._config = ConsumerConfig(
            durable_name=CONSUMER,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ack_wait_s,
            max_deliver=-1,
            max_ack_pending=max_ack_pending,
        )
        self._ack_wait_s = ack_wait_s
        self._subscription: JetStreamContext.PullSubscription | None = None
        self._held: set[Delivery] = set()
        self.problem = ""

    @property
    def stream(self) -> str:
        return self._stream

    async def fetch(self, most: int, timeout_s: float) -> list[Delivery]:
        """What comes within ``timeout_s``, sooner when it is ``most``; nothing while the broker is away."""
        if not self._bus.connected:
            # A pull that waits in the connection's buffer would take frames for nobody once it is sent.
            self.problem = "TIMINGS: NATS is not connected"
            await asyncio.sleep(0.1)
            return []
        try:
            subscription = self._subscription or await self._subscribe()
        except (NatsError, APIError, TimeoutError) as error:
            await self._fail(error)
            return []
        try:
            messages = await subscription.fetch(most, timeout=max(timeout_s, 0.01))
        except TimeoutError:
            # Nothing came.
            self._recover()
            return []
        except (NatsError, APIError) as error:
            await self._fail(error)
            return []
        self._recover()
        now = time.monotonic()
        deliveries = [Delivery(msg, now) for msg in messages]
        self._held.update(deliveries)
        return deliveries

    async def settle(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge: what these carried is safe elsewhere."""
        for delivery in deliveries:
            self._held.discard(delivery)
            try:
                await delivery.msg.ack()
            except (NatsError, MsgAlreadyAckdError) as error:
                logger.debug("frame %s will be delivered again: %s", delivery.sequence, error)

    async def close(self) -> None:
        """Let everything still in hand go to another collector at once, and pull no more.

        The connection could not be drained with this subscription open: a fetch does not mark what it takes as done.
        """
        for delivery in list(self._held):
            self._held.discard(delivery)
            try:
                await delivery.msg.nak()
            except NatsError as error:
                logger.debug("frame %s goes back at its deadline: %s", delivery.sequence, error)
        await self._unsubscribe()

    async def keep_deadlines(self) -> None:
        """Until cancelled: begin anew the deadline of every frame in hand before it passes."""
        every_s = self._ack_wait_s / 3
        while True:
            await asyncio.sleep(every_s / 2)
            now = time.monotonic()
            for delivery in [held for held in self._held if now - held.extended_at >= every_s]:
                delivery.extended_at = now
                try:
                    await delivery.msg.in_progress()
                except NatsError as error:
                    logger.debug("deadline of frame %s not extended: %s", delivery.sequence, error)

    def _recover(self) -> None:
        if self.problem and self._bus.connected:
            logger.info("TIMINGS: back")
            self.problem = ""

    async def _fail(self, error: Exception) -> None:
        reason = " ".join(str(error).split()) or type(error).__name__
        if not self.problem:
            logger.warning("TIMINGS: %s", reason)
        self.problem = f"TIMINGS: {reason}"
        await self._unsubscribe()
        await asyncio.sleep(RETRY_S)

    async def _subscribe(self) -> JetStreamContext.PullSubscription:
        await self._bus.js.add_consumer(self._stream, self._config)
        self._subscription = await self._bus.js.pull_subscribe_bind(CONSUMER, self._stream)
        return self._subscription

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                await subscription.unsubscribe()
            except NatsError as error:
                logger.debug("subscription of %s: %s", CONSUMER, error)
