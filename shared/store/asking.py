"""How a command asks the store: a short connection, runs by their names, and one clear line when nothing is there."""

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg

from shared.errors import ConfigError, TransientError, closest
from shared.store.runs import list_runs, read_run

P = ParamSpec("P")
T = TypeVar("T")
Connection = psycopg.AsyncConnection[Any]
CONNECT_TIMEOUT_S = 5
KNOWN_RUNS = 1000


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


async def find_run(connection: Connection, environment: str, name: str) -> str:
    """A run's id from itself or from ``last``; ``ConfigError`` names the nearest, or the newest few."""
    known = [row.run for row in await list_runs(connection, environment, KNOWN_RUNS)]
    if name == "last" and known:
        return known[0]
    if not known:
        raise ConfigError(f"no run {name!r}: there are no runs in environment {environment!r} yet")
    if name in known or await read_run(connection, name) is not None:
        return name
    raise ConfigError(f"no run {name!r}{closest(name, known)}; the newest are {', '.join(known[:3])}")
