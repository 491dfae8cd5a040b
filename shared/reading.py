"""How streams are read: the raw body for FastStream's handlers, and all that a subject holds at a moment."""

from faststream.nats import NatsMessage
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

ANSWER_S = 5.0


async def raw_body(message: NatsMessage) -> bytes:
    """A decoder that decodes nothing: without one FastStream guesses at the content type."""
    return bytes(message.body)


async def read_all(js: JetStreamContext, stream: str, subject: str, policy: DeliverPolicy) -> list[Msg]:
    """Every message there is now (or the last per subject, by ``policy``), in the order of the stream.

    Raises what nats-py raises.
    """
    config = ConsumerConfig(deliver_policy=policy, ack_policy=AckPolicy.NONE, inactive_threshold=30.0, mem_storage=True)
    subscription = await js.subscribe(subject, stream=stream, config=config)
    try:
        info = await subscription.consumer_info()
        delivered = info.delivered.consumer_seq if info.delivered else 0
        return [await subscription.next_msg(timeout=ANSWER_S) for _ in range((info.num_pending or 0) + delivered)]
    finally:
        await subscription.unsubscribe()
