"""Hears what people say about breaches: silences and acknowledgements, from the stream that keeps the last of each."""

import logging
from collections.abc import Callable
from typing import TypeVar

from faststream import AckPolicy
from faststream.nats import JStream, NatsMessage
from nats.js.api import ConsumerConfig, DeliverPolicy
from pydantic import BaseModel, ValidationError

from services.validator.attention import Attention
from shared.bus import Bus
from shared.config import describe
from shared.contracts.attention import Acknowledge, Silence
from shared.reading import raw_body

KEPT_CONSUMER_S = 3_600.0

M = TypeVar("M", bound=BaseModel)
logger = logging.getLogger(__name__)


def attend(bus: Bus, attention: Attention) -> None:
    """Register the subscriptions; they run once the broker is started. What is no contract is passed over."""
    _hear(bus, bus.subjects.silence("*"), Silence, attention.note_silence)
    _hear(bus, bus.subjects.acknowledge("*"), Acknowledge, attention.note_acknowledge)


def _hear(bus: Bus, subject: str, kind: type[M], note: Callable[[M], None]) -> None:
    async def hear(message: NatsMessage) -> None:
        try:
            said = kind.model_validate_json(message.body)
        except ValidationError as error:
            logger.error("ignored %s: %s", message.raw_message.subject, describe(error))  # noqa: TRY400 - the sender's
            return
        note(said)

    bus.broker.subscriber(
        subject,
        stream=JStream(bus.subjects.stream("ATTENTION"), declare=False),
        config=ConsumerConfig(deliver_policy=DeliverPolicy.LAST_PER_SUBJECT, inactive_threshold=KEPT_CONSUMER_S),
        ack_policy=AckPolicy.NACK_ON_ERROR,
        decoder=raw_body,
    )(hear)
