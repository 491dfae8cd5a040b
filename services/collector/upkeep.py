"""Keeps the store in shape: at start and each hour partitions or policies and forgotten frames, often the roll-ups."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from services.collector.timescale import Timescale
from shared.errors import TransientError
from shared.store import upkeep_postgres, upkeep_timescale
from shared.store.ingest import prune_frames
from shared.store.keeping import FRAMES_KEPT, Keeping
from shared.store.migrations import Side

TEND_EVERY = timedelta(hours=1)

logger = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


class Upkeep:
    """``store``: a connection of its own, so that a long fold keeps no batch waiting.

    ``now``: the wall clock. Partitions are of its days, and it goes on while the machine sleeps.
    """

    def __init__(
        self,
        store: Timescale,
        keeping: Keeping,
        *,
        now: Callable[[], datetime] = _now,
        every_s: float = upkeep_postgres.FOLD_EVERY_S,
    ) -> None:
        self._store, self._keeping = store, keeping
        self._now, self._every_s = now, every_s
        self._tended_at = now()
        self._side = Side.POSTGRES

    async def begin(self, side: Side) -> None:
        """What must be there before the first row. Raises ``TransientError``."""
        self._side = side
        await self._tend(self._now())

    async def run(self) -> None:
        """Until cancelled. A store that is away is tended when it is back."""
        while True:
            await asyncio.sleep(self._every_s)
            now = self._now()
            if abs(now - self._tended_at) >= TEND_EVERY:
                with contextlib.suppress(TransientError):
                    await self._tend(now)
            if self._side is Side.POSTGRES:
                with contextlib.suppress(TransientError):
                    async with self._store.transaction() as connection:
                        await upkeep_postgres.fold(connection, now)

    async def _tend(self, now: datetime) -> None:
        async with self._store.transaction() as connection:
            if self._side is Side.POSTGRES:
                await upkeep_postgres.tend(connection, self._keeping, now)
            else:
                await upkeep_timescale.tend(connection, self._keeping)
        async with self._store.transaction() as connection:
            forgotten = await prune_frames(connection, now - FRAMES_KEPT)
        self._tended_at = now
        logger.debug("store tended; %d identities of frames forgotten", forgotten)
