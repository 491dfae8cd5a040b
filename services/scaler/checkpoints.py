"""Adapter of the bucket of checkpoints: what the chain of a service does not tell, kept for whoever takes over.

One entry per service, written by compare-and-set: of a leader that was frozen nothing comes after its successor's.
"""

import asyncio
import contextlib
import logging

from nats.errors import Error as NatsError
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from services.scaler.history import Remembered
from shared.contracts.base import Message
from shared.errors import TransientError

ANSWER_S = 1.0

logger = logging.getLogger(__name__)


class Checkpoint(Message):
    """``decided``: position in SCALING of the last decision, where reading begins. ``sequence``, ``hash``: of the last
    record of the chain, so that one that was cut off shows."""

    decided: int
    sequence: int
    hash: str
    remembered: Remembered


class Checkpoints:
    """One service's entry, as one leader sees it: ``read`` when it takes over, then ``write``."""

    def __init__(self, bucket: KeyValue, service: str) -> None:
        self._bucket, self._key = bucket, f"scaler.{service}"
        self._revision = 0

    async def read(self) -> Checkpoint | None:
        """The last one; None where there is none that can be used. Raises ``TransientError``."""
        self._revision = 0
        try:
            async with asyncio.timeout(ANSWER_S):
                entry = await self._bucket.get(self._key)
        except KeyNotFoundError:
            return None
        except (NatsError, APIError, TimeoutError) as error:
            raise TransientError(f"{self._key} was not read: {error or type(error).__name__}") from error
        self._revision = entry.revision or 0
        try:
            return Checkpoint.model_validate_json(entry.value or b"")
        except ValidationError as error:
            logger.warning("%s is of no use: %s", self._key, str(error).splitlines()[0])
            return None

    async def write(self, checkpoint: Checkpoint) -> None:
        """Keep it. Only while the lease is held; one that is not kept is followed by the next."""
        body = checkpoint.model_dump_json().encode()
        try:
            async with asyncio.timeout(ANSWER_S):
                self._revision = await self._bucket.update(self._key, body, last=self._revision)
        except KeyWrongLastSequenceError:
            # Written by a leader before, or by this one and the answer was lost.
            with contextlib.suppress(TransientError):
                await self.read()
        except (NatsError, APIError, TimeoutError) as error:
            logger.debug("%s was not kept: %s", self._key, error)
