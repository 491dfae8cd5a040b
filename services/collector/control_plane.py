"""Keeps what the control plane says: runs, breaches and scaling records go from their streams into their tables.

Each message is stored as it came, so that fields of a newer writer and the hash of a record survive. All writes are
idempotent and order by generation, time or revision, so redelivery and several collectors do no harm.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
from faststream import AckPolicy
from faststream.exceptions import NackMessage
from faststream.nats import JStream, NatsMessage, PullSub
from nats.js.api import ConsumerConfig
from psycopg import AsyncConnection
from pydantic import BaseModel, ValidationError

from services.collector.dead_letters import DeadLetters
from services.collector.timescale import Timescale
from shared.bus import Bus
from shared.config import describe
from shared.contracts.breach import BreachEvent
from shared.contracts.run import RunDesired, RunState
from shared.contracts.scaling import ScalingRecord
from shared.errors import TransientError
from shared.reading import raw_body
from shared.store.breaches import save_breach
from shared.store.runs import save_desired, save_state
from shared.store.scaling import save_scaling

RETRY_S = 1.0
ORPHAN_DELIVERIES = 30
"""A state whose run is still unknown after so many deliveries will not find it any more."""
UNKNOWN_RUN = "the state of a run that nobody asked for"

M = TypeVar("M", bound=BaseModel)
Save = Callable[[AsyncConnection[Any], M, str], Awaitable[bool | None]]


class ControlPlane:
    """Registers its subscribers on the bus; they run once the broker is started."""

    def __init__(self, bus: Bus, store: Timescale, dead: DeadLetters) -> None:
        self._bus = bus
        self._store = store
        self._dead = dead
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        names = bus.subjects
        self._keep("RUNS", names.run_desired("*"), "collector-desired", RunDesired, save_desired)
        self._keep("RUNS", names.run_state("*"), "collector-state", RunState, save_state)
        self._keep("BREACHES", names.breach("*", "*", "*"), "collector", BreachEvent, save_breach)
        self._keep("SCALING", names.scaling("*"), "collector", ScalingRecord, save_scaling)

    async def watch(self) -> None:
        """Until cancelled; raises what a handler could not cope with (FastStream alone would go on without a word)."""
        await asyncio.shield(self._broken)

    def _keep(self, stream: str, subject: str, durable: str, kind: type[M], save: Save[M]) -> None:
        async def handle(body: bytes, message: NatsMessage) -> None:
            try:
                await self._handle(body, message, self._bus.subjects.stream(stream), kind, save)
            except NackMessage:
                raise
            except Exception as error:
                if not self._broken.done():
                    self._broken.set_exception(error)
                raise NackMessage(delay=RETRY_S) from error

        self._bus.broker.subscriber(
            subject,
            stream=JStream(self._bus.subjects.stream(stream), declare=False),
            durable=durable,
            config=ConsumerConfig(ack_wait=30.0, max_deliver=-1),
            pull_sub=PullSub(batch_size=16, timeout=1.0),
            ack_policy=AckPolicy.NACK_ON_ERROR,
            decoder=raw_body,
        )(handle)

    async def _handle(self, body: bytes, message: NatsMessage, stream: str, kind: type[M], save: Save[M]) -> None:
        metadata = message.raw_message.metadata
        try:
            reason = await self._save(body, kind, save)
        except TransientError as error:
            raise NackMessage(delay=RETRY_S) from error
        except psycopg.DataError as error:
            reason = f"the store cannot hold it: {' '.join(str(error).split())}"
        if reason == UNKNOWN_RUN and metadata.num_delivered < ORPHAN_DELIVERIES:
            raise NackMessage(delay=RETRY_S)
        if reason:
            await self._dead.bury(
                subject=message.raw_message.subject,
                stream=stream,
                sequence=int(metadata.sequence.stream),
                body=body,
                reason=reason,
            )

    async def _save(self, body: bytes, kind: type[M], save: Save[M]) -> str:
        """Why it cannot be kept; empty when it is."""
        try:
            text = body.decode()
            parsed = kind.model_validate_json(text)
        except ValidationError as error:
            return f"no {kind.__name__}: {describe(error)}"
        except UnicodeDecodeError as error:
            return f"no {kind.__name__}: {error}"
        async with self._store.transaction() as connection:
            found = await save(connection, parsed, text)
        return UNKNOWN_RUN if found is False else ""
