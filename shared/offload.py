"""Blocking calls beside the loop, in a few threads of one owner's, and never waited for longer than a deadline."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from shared.errors import TransientError

T = TypeVar("T")


class Offload:
    """``threads`` of its own, so that calls that hang hold up nobody else's."""

    def __init__(self, name: str, threads: int, timeout_s: float) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._turns = asyncio.Semaphore(threads)

    async def run(self, call: Callable[[], T], timeout_s: float | None = None) -> T:
        """The call's result. ``TransientError`` past the deadline, the owner's unless given; the thread ends by itself
        when the call does.

        Waiting for a thread does not count: of many short calls none is late because of the others.
        """
        timeout_s = timeout_s or self._timeout_s
        try:
            async with self._turns, asyncio.timeout(timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except TimeoutError as error:
            raise TransientError(f"{self._name}: no answer within {timeout_s:g} s") from error

    def close(self) -> None:
        """Start nothing more; does not wait for what hangs."""
        self._pool.shutdown(wait=False, cancel_futures=True)
