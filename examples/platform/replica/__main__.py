"""`python -m examples.platform.replica`: serve one replica, as the JSON spec on standard input says.

Standard input stays open as long as the supervisor lives; its end is the replica's order to stop, besides SIGTERM.
Once it listens, the replica writes `{"port": N}` on a line of standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys

import uvloop
from aiohttp import web

from .admin import Admin
from .service import Service
from .spec import ReplicaSpec

_CLOSE_DEADLINE_S = 1.0


async def serve(spec: ReplicaSpec) -> None:
    """Serve until SIGTERM or the end of standard input."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # a Ctrl-C in the terminal is the supervisor's to act on
    loop.add_reader(sys.stdin.fileno(), stopping.set)
    service = Service(spec)
    Admin(service)
    _build_surface(service)
    runner = web.AppRunner(
        service.app, access_log=None, handler_cancellation=True, keepalive_timeout=75, shutdown_timeout=0.2
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    pruning = asyncio.create_task(service.prune_forever())
    os.write(sys.stdout.fileno(), json.dumps({"port": runner.addresses[0][1]}).encode() + b"\n")
    await stopping.wait()
    loop.remove_reader(sys.stdin.fileno())
    pruning.cancel()
    await runner.cleanup()
    await service.close(_CLOSE_DEADLINE_S)


def _build_surface(service: Service) -> None:
    # Each process imports the one system it is.
    system = service.spec.config.system
    if system == "autmatrix":
        from .autmatrix import AutoMatrix

        AutoMatrix(service)
    elif system == "relaycore":
        from .relaycore import RelayCore

        RelayCore(service)
    else:
        from .neuroweaver import NeuroWeaver

        NeuroWeaver(service)


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    spec = ReplicaSpec.from_json(json.loads(sys.stdin.buffer.readline()))
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(spec))


if __name__ == "__main__":
    main()
