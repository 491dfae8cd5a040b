"""One replica as a child process: its start, the port it reports, and its end. It cannot outlive the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from ..replica.spec import ReplicaSpec

_ROOT = Path(__file__).resolve().parents[3]
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ReplicaStartError(Exception):
    """The child ended, or said something else, before it reported its port."""


class ReplicaProcess:
    """A running child. Its death is seen by `wait`."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.returncode is None

    async def wait(self) -> int:
        """The exit code, once it has ended."""
        return await self._child.wait()

    async def read_port(self) -> int:
        """The port the replica listens on."""
        stdout = self._child.stdout
        assert stdout is not None  # noqa: S101 - asked for at the start
        line = await stdout.readline()
        try:
            return int(json.loads(line)["port"])
        except (ValueError, KeyError, TypeError) as error:
            raise ReplicaStartError(f"replica {self.pid} ended before it listened") from error

    async def stop(self, deadline_s: float) -> None:
        """SIGTERM, and SIGKILL when the replica has not ended within `deadline_s`."""
        with contextlib.suppress(ProcessLookupError):
            if self.is_running:
                self._child.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(deadline_s):
                await self._child.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()
            await self._child.wait()


async def start_replica(spec: ReplicaSpec) -> ReplicaProcess:
    """Start a child that serves `spec`. The kernel kills it with the supervisor; elsewhere it sees its input end."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "examples.platform.replica",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        preexec_fn=_die_with_parent if _libc is not None else None,
        start_new_session=False,
    )
    stdin = child.stdin
    assert stdin is not None  # noqa: S101 - asked for above
    with contextlib.suppress(ConnectionError):
        stdin.write(json.dumps(asdict(spec)).encode() + b"\n")
        await stdin.drain()
    return ReplicaProcess(child)


def _die_with_parent() -> None:
    """Runs in the child before exec: have the kernel send SIGKILL when the supervisor's thread ends."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
