"""Adapter of the bucket of checkpoints: one entry a run, and one for the position they are all of.

The position is written last, so what is there is whole: a run without an entry was not known, or is forgotten.
"""

import asyncio
import logging
from collections.abc import Iterable

from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from nats.js.errors import KeyNotFoundError, NoKeysError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from services.validator.checkpoint import Checkpoint, Position
from shared.errors import TransientError

POSITION = "position"
RUN = "run."
ANSWER_S = 2.0

logger = logging.getLogger(__name__)


class CheckpointStore:
    """Raises ``TransientError`` where the broker does not answer."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket
        self._written: set[str] = set()

    async def read(self) -> tuple[Position | None, list[Checkpoint]]:
        """What the last one to write left; entries that cannot be read are logged and passed over."""
        try:
            async with asyncio.timeout(3 * ANSWER_S):
                return await self._read()
        except (NatsError, JetStreamError, TimeoutError) as error:
            raise TransientError(f"checkpoints cannot be read: {error or type(error).__name__}") from error

    async def write(self, position: Position, checkpoints: Iterable[Checkpoint]) -> None:
        """Keep these runs as of a position, and forget all others."""
        try:
            async with asyncio.timeout(3 * ANSWER_S):
                runs = {one.run: one.packed() for one in checkpoints}
                for run, body in runs.items():
                    await self._bucket.put(RUN + run, body)
                await self._bucket.put(POSITION, position.model_dump_json().encode())
                for run in self._written - runs.keys():
                    await self._bucket.purge(RUN + run)
                self._written = set(runs)
        except (NatsError, JetStreamError, TimeoutError) as error:
            raise TransientError(f"checkpoint not kept: {error or type(error).__name__}") from error

    async def _read(self) -> tuple[Position | None, list[Checkpoint]]:
        try:
            keys = await self._bucket.keys()
            entry = await self._bucket.get(POSITION)
            position = Position.model_validate_json(entry.value or b"")
        except (NoKeysError, KeyNotFoundError):
            return None, []
        except ValidationError as error:
            logger.warning("what is said of the last position is no position: %s", error.errors()[0]["msg"])
            return None, []
        found = []
        for key in keys:
            if not key.startswith(RUN):
                continue
            try:
                found.append(Checkpoint.unpacked((await self._bucket.get(key)).value or b""))
            except (KeyNotFoundError, ValueError) as error:
                logger.warning("%s is passed over: %s", key, error)
        self._written = {one.run for one in found}
        return position, found
