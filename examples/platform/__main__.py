"""`python -m examples.platform`: run the stand-in platform until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from .replica.spec import ServiceConfig
from .supervisor.api import PlatformApi
from .supervisor.platform import Platform
from .supervisor.settings import ConfigError, PlatformSettings, load_services, load_settings, name_port

_log = logging.getLogger("platform")


async def run_platform(settings: PlatformSettings, services: dict[str, ServiceConfig], data: Path) -> None:
    """Run until SIGTERM or SIGINT. ConfigError when a port is taken."""
    stopping = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stopping.set)
    platform = Platform(settings, services, data)
    runner = web.AppRunner(PlatformApi(platform).app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        with name_port("port", settings.port):
            await web.TCPSite(runner, "127.0.0.1", settings.port).start()
        await platform.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        await _until_first(stopping.wait(), platform.wait_until_ready())
        if not stopping.is_set():
            _log.info("ready, supervisor at %s", url)
            state = {"supervisor_url": url, "targets": platform.targets(), "pid": os.getpid()}
            with _state_file(settings.state_file, state):
                await stopping.wait()
    finally:
        await platform.stop()
        await runner.cleanup()


async def _until_first(*waits: Coroutine[Any, Any, Any]) -> None:
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


@contextlib.contextmanager
def _state_file(path: Path | None, state: dict[str, object]) -> Iterator[None]:
    """The state at `path` while inside, written in one step so a reader never sees half of it."""
    if path is None:
        yield
        return
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(state))
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"TIDEGATE_PLATFORM_STATE_FILE: {path}: {error.strerror}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _data_folder(named: Path | None) -> Iterator[Path]:
    """The folder named, kept; or a temporary one, removed."""
    if named is None:
        with tempfile.TemporaryDirectory(prefix="tidegate-platform-") as folder:
            yield Path(folder)
        return
    try:
        named.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"TIDEGATE_PLATFORM_DATA: {named}: {error.strerror}") from error
    yield named


def _parse_replicas(argument: str) -> tuple[str, int]:
    service, _, count = argument.partition("=")
    if not service or not count.isdecimal():
        raise argparse.ArgumentTypeError(f"{argument!r} is not SERVICE=NUMBER, such as relaycore=2")
    return service, int(count)


def main() -> int:
    """Exit code 0 after an orderly stop, 2 on a usage or configuration error."""
    parser = argparse.ArgumentParser(prog="python -m examples.platform", description="The stand-in platform")
    parser.add_argument(
        "--replicas", action="append", type=_parse_replicas, default=[], metavar="SERVICE=N", help="repeatable"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = load_settings()
        services = load_services(settings.config, dict(arguments.replicas))
        with _data_folder(settings.data) as data:
            uvloop.run(run_platform(settings, services, data))
    except ConfigError as error:
        sys.stderr.write(f"platform: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
