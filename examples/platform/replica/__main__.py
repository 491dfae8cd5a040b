"""`python -m examples.platform.replica`: the fork server of replicas, and how one replica serves.

`--otlp` loads the span exporter too before the first fork.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys

import uvloop
from aiohttp import web

from .admin import Admin
from .autmatrix import AutoMatrix
from .fork_server import ForkServer, tell
from .neuroweaver import NeuroWeaver
from .relaycore import RelayCore
from .service import Service
from .spec import ReplicaSpec

_CLOSE_DEADLINE_S = 1.0
_PARENT_CHECK_S = 1.0
_SURFACES = {"autmatrix": AutoMatrix, "relaycore": RelayCore, "neuroweaver": NeuroWeaver}


async def serve(spec: ReplicaSpec) -> None:
    """Serve until SIGTERM, or the end of the fork server where the kernel does not see to that."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    service = Service(spec)
    Admin(service)
    _SURFACES[spec.config.system](service)
    runner = web.AppRunner(
        service.app, access_log=None, handler_cancellation=True, keepalive_timeout=75, shutdown_timeout=0.2
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    upkeep = [asyncio.create_task(service.prune_forever()), asyncio.create_task(_watch_parent(stopping))]
    tell("listening", spec.instance, port=runner.addresses[0][1])
    await stopping.wait()
    for task in upkeep:
        task.cancel()
    await runner.cleanup()
    await service.close(_CLOSE_DEADLINE_S)


async def _watch_parent(stopping: asyncio.Event) -> None:
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 - the operating system's state
        await asyncio.sleep(_PARENT_CHECK_S)
    stopping.set()


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if "--otlp" in sys.argv:
        importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    ForkServer(lambda spec: uvloop.run(serve(spec))).run()


if __name__ == "__main__":
    main()
