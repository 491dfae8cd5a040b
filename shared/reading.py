"""How streams are read: the raw body for FastStream's handlers, a watch over them, what a subject holds at a moment."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime

from faststream.nats import NatsMessage
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from shared.bus import Bus
from shared.errors import TidegateError

ANSWER_S = 5.0
CHECK_S = 5.0
PAGE = 256
_HEARD_AGAIN_S = 0.02


class DeafError(TidegateError):
    """The broker has forgotten a consumer: its subscriber looks alive and hears nothing more."""


async def raw_body(message: NatsMessage) -> bytes:
    """A decoder that decodes nothing: without one FastStream guesses at the content type."""
    return bytes(message.body)


async def lost_consumer(subscriber: object) -> bool:
    """Whether the broker has forgotten a subscriber's consumer; one outside JetStream has none to lose.

    Raises what nats-py raises when the broker cannot be asked.
    """
    subscription = getattr(subscriber, "subscription", None)
    if not isinstance(subscription, JetStreamContext.PushSubscription | JetStreamContext.PullSubscription):
        return False
    try:
        await subscription.consumer_info()
    except NotFoundError:
        return True
    return False


async def watch_ears(bus: Bus) -> None:
    """Until cancelled. Raises ``DeafError``: the process ends, and the next one subscribes anew."""
    while True:
        await asyncio.sleep(CHECK_S)
        for subscriber in bus.broker.subscribers:
            try:
                if await lost_consumer(subscriber):
                    raise DeafError(f"{subscriber}: the broker has lost its consumer")
            except (NatsError, APIError, TimeoutError):
                continue  # away, not deaf: the next look tells


async def until_heard(bus: Bus, within_s: float) -> None:
    """Until every subscriber has taken what its stream holds for it, for at most so long."""
    with contextlib.suppress(NatsError, APIError, TimeoutError):
        async with asyncio.timeout(within_s):
            for subscriber in bus.broker.subscribers:
                while True:
                    if await _heard(subscriber):
                        break
                    await asyncio.sleep(_HEARD_AGAIN_S)


async def _heard(subscriber: object) -> bool:
    subscription = getattr(subscriber, "subscription", None)
    if not isinstance(subscription, JetStreamContext.PushSubscription | JetStreamContext.PullSubscription):
        return True
    info = await subscription.consumer_info()
    return not (info.num_pending or info.num_ack_pending or subscription.pending_msgs)


async def read_last(js: JetStreamContext, stream: str, subject: str) -> list[Msg]:
    """The last message of every subject. Raises what nats-py raises."""
    return await _read(js, stream, subject, ConsumerConfig(deliver_policy=DeliverPolicy.LAST_PER_SUBJECT))


async def read_since(js: JetStreamContext, stream: str, subject: str, since: datetime) -> list[Msg]:
    """Every message kept since a moment, in the order of the stream. Raises what nats-py raises.

    They come at once, so what is asked for must stay well below the 128 MiB that nats-py holds for one subscription.
    """
    config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=since)
    return await _read(js, stream, subject, config)


async def read_from(js: JetStreamContext, stream: str, subject: str, sequence: int) -> list[Msg]:
    """As ``read_since``, from a position of the stream on."""
    config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=sequence)
    return await _read(js, stream, subject, config)


async def read_pages(js: JetStreamContext, stream: str, subject: str) -> AsyncIterator[list[Msg]]:
    """Every message that a subject holds when asked, in the order of the stream, page by page: for as many as may be.

    Raises what nats-py raises.
    """
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=30.0, mem_storage=True)
    subscription = await js.pull_subscribe(subject, stream=stream, config=config)
    try:
        left = (await subscription.consumer_info()).num_pending or 0
        while left:
            page = await subscription.fetch(min(left, PAGE), timeout=ANSWER_S)
            yield page
            left -= len(page)
    finally:
        await subscription.unsubscribe()


async def _read(js: JetStreamContext, stream: str, subject: str, config: ConsumerConfig) -> list[Msg]:
    config = replace(config, ack_policy=AckPolicy.NONE, inactive_threshold=30.0, mem_storage=True)
    subscription = await js.subscribe(subject, stream=stream, config=config)
    try:
        info = await subscription.consumer_info()
        delivered = info.delivered.consumer_seq if info.delivered else 0
        return [await subscription.next_msg(timeout=ANSWER_S) for _ in range((info.num_pending or 0) + delivered)]
    finally:
        await subscription.unsubscribe()
