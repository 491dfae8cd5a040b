"""How a service process begins and ends: settings, logs, signals, exit codes.

A service is one coroutine ``serve(settings, stop)``; it opens in order, waits for ``stop``, and closes in reverse.
The exit code is 0 after a clean stop, 2 when its configuration is wrong (one line, no traceback), 1 on a bug.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import uvloop

from shared.errors import ConfigError
from shared.settings import ServiceSettings, read_settings
from shared.telemetry import configure_logging

CANCEL_AGAIN_S = 1.0

S = TypeVar("S", bound=ServiceSettings)
logger = logging.getLogger(__name__)


def run_service(name: str, kind: type[S], serve: Callable[[S, asyncio.Event], Awaitable[None]]) -> None:
    """Run a service until SIGTERM or SIGINT, then exit the process with its code."""
    try:
        settings = read_settings(kind)
        configure_logging(name, settings.log_level)
        with _exporting_metrics(name, settings):
            uvloop.run(_supervise(settings, serve))
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def _exporting_metrics(name: str, settings: ServiceSettings) -> AbstractContextManager[None]:
    endpoint = settings.otlp_metrics_endpoint
    if endpoint is None:
        return contextlib.nullcontext()
    # Loaded where metrics are sent somewhere: it costs each process some megabytes.
    from shared.otlp_metrics import exporting_metrics

    return exporting_metrics(name, settings.environment, endpoint, settings.otlp_metrics_interval_s)


class Stop(asyncio.Event):
    """Set when the process is asked to stop. ``heeded``: the service has opened and waits for it (``run_until``)."""

    heeded = False


async def _supervise(settings: S, serve: Callable[[S, asyncio.Event], Awaitable[None]]) -> None:
    stop = Stop()
    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(serve(settings, stop))

    def ask() -> None:
        stop.set()
        if not stop.heeded:
            # It is still opening, perhaps waiting for a server that never comes.
            serving.cancel()

    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, ask)
    try:
        await serving
    except asyncio.CancelledError:
        if not stop.is_set():
            raise


async def run_until(stop: asyncio.Event, tasks: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run side tasks until ``stop``; one that ends or raises before that ends the service with its error.

    A service whose ear has died but whose heart beats on is the worst kind of up: so no side task dies alone.
    """
    if isinstance(stop, Stop):
        stop.heeded = True
    running = [asyncio.ensure_future(task) for task in tasks]
    stopped = asyncio.ensure_future(stop.wait())
    try:
        done, _ = await asyncio.wait([*running, stopped], return_when=asyncio.FIRST_COMPLETED)
        if stopped not in done:
            for task in done:
                task.result()
            raise RuntimeError("a side task ended before the service was asked to stop")
    finally:
        await end_all([stopped, *running])


async def end_all(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel until all have ended: in Python 3.11 a result that comes just then lets ``asyncio.wait_for`` go on."""
    every = set(tasks)
    left = every
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
    await asyncio.gather(*every, return_exceptions=True)


async def pause(stop: asyncio.Event, seconds: float) -> bool:
    """Wait that long or until ``stop``; True when it is time to stop."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()
