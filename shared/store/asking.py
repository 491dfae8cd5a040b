"""How a command asks the store: a short connection, and one clear line when there is nothing behind it."""

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg

from shared.errors import ConfigError, TransientError

P = ParamSpec("P")
T = TypeVar("T")
Connection = psycopg.AsyncConnection[Any]
CONNECT_TIMEOUT_S = 5


async def ask_store(
    dsn: str, query: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
) -> T:
    """The answer of one query of ``shared.store``.

    ``TransientError`` when the store cannot be reached, ``ConfigError`` when it is no store of Tidegate.
    """
    try:
        async with await psycopg.AsyncConnection.connect(
            dsn, connect_timeout=CONNECT_TIMEOUT_S, autocommit=True
        ) as connection:
            return await query(connection, *args, **kwargs)
    except psycopg.errors.UndefinedTable as error:
        raise ConfigError("the store has no tables of Tidegate yet; has a collector ever run on it?") from error
    except psycopg.Error as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TransientError(f"the store did not answer: {reason}") from error
