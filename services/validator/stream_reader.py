"""Adapter of the streams that are read in order and from a bit back: WINDOWS and RESOURCES.

An unacknowledged consumer that is made anew, from the message after the last one seen, whenever it is lost, has
skipped a message or has gone quiet: a reader is never deaf for longer than ``QUIET_S`` while it looks alive.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import datetime

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError

QUIET_S = 5.0
RETRY_S = 0.5

logger = logging.getLogger(__name__)


class Skipped(Exception):  # noqa: N818 - a reason to begin anew, not an error of anyone
    """The consumer's sequence has a hole: messages were dropped on the way."""


async def follow(js: JetStreamContext, stream: str, subject: str, since: datetime) -> AsyncIterator[Msg]:
    """Every message of a subject from ``since`` on, in the order of the stream, for ever."""
    after = 0
    while True:
        try:
            async for message in _read(js, stream, subject, since, after):
                after = message.metadata.sequence.stream
                yield message
        except Skipped:
            logger.warning("%s: messages were dropped on the way, reading again after %d", stream, after)
        except (NatsError, JetStreamError, TimeoutError) as error:
            logger.warning("%s: reading again after %d: %s", stream, after, error or type(error).__name__)
            await asyncio.sleep(RETRY_S)


async def _read(js: JetStreamContext, stream: str, subject: str, since: datetime, after: int) -> AsyncIterator[Msg]:
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=30.0, mem_storage=True)
    if after:
        config.deliver_policy, config.opt_start_seq = DeliverPolicy.BY_START_SEQUENCE, after + 1
    else:
        config.deliver_policy, config.opt_start_time = DeliverPolicy.BY_START_TIME, since
    subscription = await js.subscribe(subject, stream=stream, config=config)
    expected = 1
    try:
        while True:
            try:
                message = await subscription.next_msg(timeout=QUIET_S)
            except NatsTimeoutError:
                # Quiet, or deaf: the server knows whether the consumer is still there.
                if _delivered(await subscription.consumer_info()) >= expected:
                    raise Skipped from None
                continue
            if message.metadata.sequence.consumer != expected:
                raise Skipped
            expected += 1
            yield message
    except NotFoundError:
        logger.info("%s: the consumer is gone, making another", stream)
    finally:
        try:
            await subscription.unsubscribe()
        except NatsError as error:
            logger.debug("%s: consumer left to expire: %s", stream, error)


def _delivered(info: ConsumerInfo) -> int:
    return info.delivered.consumer_seq if info.delivered else 0
