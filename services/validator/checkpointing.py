"""Keeps the runs of the presiding validator safe from its death: written every few seconds, taken up at a start."""

import asyncio
import contextlib
import logging
from datetime import timedelta

from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from pydantic import ValidationError

from services.validator.board import RunBoard
from services.validator.checkpoint import Checkpoint, capture, restore
from services.validator.checkpoint_store import CheckpointStore
from services.validator.inbox import Inbox
from services.validator.judging import Judge
from shared.bus import Bus
from shared.clock import wall_us
from shared.config import describe
from shared.contracts.run import RunState
from shared.errors import TransientError
from shared.lease import Lease
from shared.reading import read_since

EVERY_S = 2.0
RETRY_S = 0.5
STATES_BEFORE = timedelta(seconds=10)
"""States come each second; some that are known already cost nothing."""

logger = logging.getLogger(__name__)


class Checkpointer:
    """Writes while the lease is held: who stands by reads along, and needs none of it."""

    def __init__(self, bus: Bus, judge: Judge, inbox: Inbox, lease: Lease, store: CheckpointStore) -> None:
        self._bus, self._judge, self._inbox, self._lease, self._store = bus, judge, inbox, lease, store

    async def take_up(self) -> None:
        """Begin where the last one ended; waits for a broker that does not answer."""
        while True:
            if await self._taken_up():
                return
            await asyncio.sleep(RETRY_S)

    async def keep(self) -> None:
        """Write for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.save()
            except TransientError as error:
                logger.warning("%s", error)

    async def close(self) -> None:
        """Leave the next one all that is known."""
        with contextlib.suppress(TransientError):
            await self.save()

    async def save(self) -> None:
        """Write all runs as they stand, at one moment."""
        position = self._inbox.position
        if position is None or not self._lease.held or not self._inbox.joined:
            return
        boards = list(self._judge.boards.values())
        await self._store.write(position, [capture(board, position.sequence, position.at) for board in boards])

    async def _taken_up(self) -> bool:
        try:
            await self._take_up()
        except (TransientError, NatsError, JetStreamError, TimeoutError) as error:
            logger.warning("not taken up yet: %s", error or type(error).__name__)
            return False
        return True

    async def _take_up(self) -> None:
        position, checkpoints = await self._store.read()
        if position is None:
            return
        stream = await self._bus.js.stream_info(self._bus.subjects.stream("WINDOWS"))
        if stream.state.last_seq < position.sequence:
            # Another stream than the one they speak of; which frames were merged is as true as ever.
            position = position.model_copy(update={"sequence": 0})
            checkpoints = [one.model_copy(update={"position": 0}) for one in checkpoints]
        now_us = wall_us()
        for saved in checkpoints:
            board = self._judge.board(saved.run)
            restore(board, saved, now_us)
            await self._catch_up(board, saved)
        self._inbox.begin_at(position, checkpoints)
        logger.info("%d runs taken up as of %s", len(checkpoints), position.at)

    async def _catch_up(self, board: RunBoard, saved: Checkpoint) -> None:
        """The states told since: who was there heard one a second, and later only the last is asked for."""
        since = saved.at - STATES_BEFORE
        subjects = self._bus.subjects
        for message in await read_since(self._bus.js, subjects.stream("RUNS"), subjects.run_state(saved.run), since):
            try:
                board.note_state(RunState.model_validate_json(message.data))
            except ValidationError as error:
                logger.error("ignored %s: %s", message.subject, describe(error))  # noqa: TRY400 - the sender's
