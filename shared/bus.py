"""One connection to NATS per service: a FastStream broker for the control plane, JetStream beside it for data.

FastStream's default policy acknowledges a message whose handler raised; subscribers made here use
``AckPolicy.NACK_ON_ERROR`` or acknowledge by hand, so that a fault is a redelivery and never a loss.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.errors import ConnectionClosedError, ConnectionReconnectingError, NoRespondersError
from nats.js import JetStreamContext
from nats.js.errors import ServerError, ServiceUnavailableError
from nats.js.kv import KeyValue

from shared.streams import ensure_streams
from shared.subjects import Subjects

# A broker that does not answer must not keep a process from ending in order.
CLOSE_S = 3.0
WRONG_LAST_SEQUENCE = 10071
"""JetStream's error code where another has written to a subject meanwhile."""
STREAMS_AGAIN_S = 2.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bus:
    """The open connection and the names of its environment."""

    broker: NatsBroker
    client: Client
    js: JetStreamContext
    subjects: Subjects

    async def bucket(self, name: str) -> KeyValue:
        """A key-value bucket of ``shared.streams.BUCKETS`` by its short name."""
        return await self.js.key_value(self.subjects.bucket(name))

    @property
    def connected(self) -> bool:
        return self.client.is_connected


@asynccontextmanager
async def open_bus(nats_url: str, environment: str, name: str) -> AsyncIterator[Bus]:
    """Connect (waiting for a server that is not up yet, reconnecting for ever), and make sure the streams exist.

    Handlers are registered on ``bus.broker`` by the caller, who then awaits ``bus.broker.start()``.
    """
    subjects = Subjects(environment)
    broker = NatsBroker(
        nats_url,
        name=f"tidegate-{name}",
        connect_timeout=2,
        reconnect_time_wait=1,
        max_reconnect_attempts=-1,
        allow_reconnect=True,
        pending_size=64 * 1024 * 1024,
        logger=None,
    )
    client = await broker.connect()
    try:
        js = client.jetstream(timeout=5)
        await _until_streams(js, subjects)
        yield Bus(broker, client, js, subjects)
    finally:
        # A connection that is away cannot be drained; it is closed then, or it would go on connecting.
        with contextlib.suppress(ConnectionReconnectingError, ConnectionClosedError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await broker.stop()
        # With what it still had to say it writes to a transport that is gone; uvloop calls that a RuntimeError.
        with contextlib.suppress(OSError, RuntimeError):
            await client.close()


async def _until_streams(js: JetStreamContext, subjects: Subjects) -> None:
    """Make the streams; a server without JetStream, or without room for them, is asked again and reported."""
    while True:
        try:
            return await ensure_streams(js, subjects)
        except (ServerError, ServiceUnavailableError) as error:
            reason = error.description or "JetStream does not answer; is it enabled?"
        except NoRespondersError:
            reason = "JetStream does not answer; is it enabled?"
        except TimeoutError:
            reason = "no answer in time"
        logger.warning("the streams of %s are not there yet: %s; again in %g s", subjects.environment, reason,
                       STREAMS_AGAIN_S)  # fmt: skip
        await asyncio.sleep(STREAMS_AGAIN_S)


async def publish_after(
    js: JetStreamContext, subject: str, body: bytes, sequence: int, timeout_s: float | None = None
) -> int:
    """``publish_now`` of JSON if the subject's last message is ``sequence`` (0: it has none); else ``APIError``."""
    headers = {"Content-Type": "application/json", "Nats-Expected-Last-Subject-Sequence": str(sequence)}
    return await publish_now(js, subject, body, headers, timeout_s)


async def publish_now(
    js: JetStreamContext,
    subject: str,
    body: bytes,
    headers: dict[str, str] | None = None,
    timeout_s: float | None = None,
) -> int:
    """Publish and await the broker's acknowledgement; returns the stream sequence. Raises what nats-py raises."""
    ack = await js.publish(subject, body, headers=headers, timeout=timeout_s)
    return int(ack.seq)
