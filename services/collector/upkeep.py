"""Keeps the store in shape: at start and each hour partitions or policies and forgotten frames, often the roll-ups."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime

from services.collector.timescale import Timescale
from shared.errors import TransientError
from shared.store import upkeep_postgres, upkeep_timescale
from shared.store.ingest import prune_frames
from shared.store.keeping import FRAMES_KEPT, Keeping
from shared.store.migrations import Side

TEND_EVERY_S = 3_600.0

logger = logging.getLogger(__name__)


class Upkeep:
    """``store``: a connection of its own, so that a long fold keeps no batch waiting."""

    def __init__(self, store: Timescale, keeping: Keeping) -> None:
        self._store, self._keeping = store, keeping
        self._side = Side.POSTGRES

    async def begin(self, side: Side) -> None:
        """What must be there before the first row. Raises ``TransientError``."""
        self._side = side
        await self._tend(datetime.now(UTC))

    async def run(self) -> None:
        """Until cancelled. A store that is away is tended when it is back."""
        tended_at = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(upkeep_postgres.FOLD_EVERY_S)
            now, at = datetime.now(UTC), asyncio.get_running_loop().time()
            with contextlib.suppress(TransientError):
                if self._side is Side.POSTGRES:
                    async with self._store.transaction() as connection:
                        await upkeep_postgres.fold(connection, now)
                if at - tended_at >= TEND_EVERY_S:
                    await self._tend(now)
                    tended_at = at

    async def _tend(self, now: datetime) -> None:
        async with self._store.transaction() as connection:
            if self._side is Side.POSTGRES:
                await upkeep_postgres.tend(connection, self._keeping, now)
            else:
                await upkeep_timescale.tend(connection, self._keeping)
        async with self._store.transaction() as connection:
            forgotten = await prune_frames(connection, now - FRAMES_KEPT)
        logger.debug("store tended; %d identities of frames forgotten", forgotten)
