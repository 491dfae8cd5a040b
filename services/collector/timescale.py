"""The store as the collector sees it: one lazily opened connection per purpose, transactions, faults by type.

Everything that is the store's fault or passes by itself leaves here as ``TransientError`` and costs the connection;
everything else is a bug or bad data and leaves as psycopg raised it. What is written stands in ``frame_store.py``
and its like, SQL in ``shared.store``.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors

from shared.errors import TransientError

TRANSACTION_TIMEOUT_S = 30.0
FROZEN_AFTER_S = 2 * TRANSACTION_TIMEOUT_S
CONNECT_TIMEOUT_S = 5

_PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout,
    # The row of a name we remember is gone: it is made again at the next try.
    errors.ForeignKeyViolation,
    TimeoutError,
)

logger = logging.getLogger(__name__)


class Timescale:
    """One connection. Callers take turns; ``problem`` is why the last transaction failed, empty after a success."""

    def __init__(self, dsn: str, purpose: str) -> None:
        self._dsn = dsn
        self._purpose = purpose
        self._connection: AsyncConnection[Any] | None = None
        self._turn = asyncio.Lock()
        self.problem = ""

    async def close(self) -> None:
        async with self._turn:
            await self._drop()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A transaction that commits at the end of the block. Raises ``TransientError`` when the store is away."""
        async with self._turn:
            try:
                async with asyncio.timeout(TRANSACTION_TIMEOUT_S):
                    connection = await self._connected()
                    async with connection.transaction():
                        yield connection
            except _PASSING as error:
                await self._drop()
                reason = " ".join(str(error).split()) or type(error).__name__
                if not self.problem:
                    logger.warning("store (%s): %s", self._purpose, reason)
                self.problem = f"store ({self._purpose}): {reason}"
                raise TransientError(self.problem) from error
            if self.problem:
                logger.info("store (%s): back", self._purpose)
            self.problem = ""

    async def _connected(self) -> AsyncConnection[Any]:
        if self._connection is None:
            self._connection = await AsyncConnection.connect(
                self._dsn,
                autocommit=True,
                application_name=f"tidegate-collector-{self._purpose}",
                # A connection whose other end vanished is noticed without waiting for TCP's own hours.
                keepalives_idle=10,
                keepalives_interval=3,
                keepalives_count=3,
            )
            # A collector that is frozen with a transaction open, its connection alive, must not keep the others from
            # its frames: by the time it wakes, the server has undone it.
            await self._connection.execute(f"SET idle_in_transaction_session_timeout = '{FROZEN_AFTER_S:g}s'")
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()
