"""Replicas as processes: started by the fork server, seen through its events, ended by a signal it passes on.

The kernel ends the fork server with the supervisor, and every replica with the fork server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..replica.fork_server import die_with_parent
from ..replica.spec import ReplicaSpec

_ROOT = Path(__file__).resolve().parents[3]
_LOST_CODE = -signal.SIGKILL


class ReplicaStartError(Exception):
    """The replica ended before it listened."""


class ReplicaProcess:
    """One replica's process, from the moment it has a `pid`."""

    def __init__(self, instance: str, nursery: Nursery) -> None:
        loop = asyncio.get_running_loop()
        self.instance = instance
        self.pid = 0
        self._nursery = nursery
        self._started = asyncio.Event()
        self._port: asyncio.Future[int] = loop.create_future()
        self._code: asyncio.Future[int] = loop.create_future()

    async def wait_until_started(self) -> None:
        """Until it has a pid, or has ended without one."""
        await self._started.wait()

    async def wait(self) -> int:
        """The exit code, once it has ended; negative when a signal ended it."""
        return await asyncio.shield(self._code)

    async def read_port(self) -> int:
        """The port it listens on. ReplicaStartError when it ended instead."""
        await asyncio.wait([self._port, self._code], return_when=asyncio.FIRST_COMPLETED)
        if not self._port.done():
            raise ReplicaStartError(f"replica {self.instance} ended before it listened")
        return self._port.result()

    async def stop(self, deadline_s: float) -> None:
        """SIGTERM, and SIGKILL when it has not ended within `deadline_s`."""
        self._signal(signal.SIGTERM)
        await asyncio.wait([self._code], timeout=deadline_s)
        if not self._code.done():
            self._signal(signal.SIGKILL)
            await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        # Sent by the process that reaps, so it can never hit a process that got the same number since.
        if not self._code.done():
            self._nursery.send({"signal": int(number), "instance": self.instance})

    def hear(self, event: dict[str, Any]) -> None:
        """Take in one event of the fork server."""
        if event["event"] == "started":
            self.pid = event["pid"]
            self._started.set()
        elif event["event"] == "listening" and not self._port.done():
            self._port.set_result(event["port"])
        elif event["event"] == "ended" and not self._code.done():
            self._code.set_result(event["code"])
            self._started.set()


class Nursery:
    """The fork server's other end. It is started with the first replica, and again should it die."""

    def __init__(self, has_tracing: bool) -> None:
        self._arguments = ["--otlp"] if has_tracing else []
        self._server: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._replicas: dict[str, ReplicaProcess] = {}
        self._starting = asyncio.Lock()

    async def start(self, spec: ReplicaSpec) -> ReplicaProcess:
        """A new process that serves `spec`; it may not listen yet."""
        async with self._starting:
            if self._server is None:
                await self._start_server()
        replica = self._replicas[spec.instance] = ReplicaProcess(spec.instance, self)
        self.send({"start": asdict(spec)})
        await replica.wait_until_started()
        return replica

    def send(self, command: dict[str, Any]) -> None:
        """Give the fork server a command; one that is gone has taken its replicas along, so it is dropped."""
        if self._server is not None and self._server.stdin is not None:
            with contextlib.suppress(ConnectionError):
                self._server.stdin.write(json.dumps(command).encode() + b"\n")

    async def close(self) -> None:
        """End the fork server. Replicas that still run end with it."""
        if self._server is not None and self._server.stdin is not None:
            self._server.stdin.close()
        if self._listening is not None:
            await self._listening

    async def _start_server(self) -> None:
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        parent = os.getpid()
        self._server = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "examples.platform.replica",
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
            preexec_fn=lambda: die_with_parent(parent),
        )
        self._listening = asyncio.create_task(self._listen(self._server))

    async def _listen(self, server: asyncio.subprocess.Process) -> None:
        assert server.stdout is not None  # noqa: S101 - asked for at the start
        async for line in server.stdout:
            event = json.loads(line)
            replica = self._replicas.get(event["instance"])
            if replica is not None:
                replica.hear(event)
                if event["event"] == "ended":
                    del self._replicas[event["instance"]]
        await server.wait()
        self._server = None
        for replica in self._replicas.values():
            replica.hear({"event": "ended", "code": _LOST_CODE})
        self._replicas.clear()
