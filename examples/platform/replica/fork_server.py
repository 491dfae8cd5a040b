"""Forks replicas from a process that has everything imported, so a new one is ready in tens of milliseconds.

Commands come as JSON lines on standard input: `{"start": spec}` and `{"signal": number, "instance": id}`. Events go
out as JSON lines on standard output: `started` with `pid`, `listening` with `port` (written by the replica itself), and
`ended` with `code`, each with `instance`. The end of the input ends this process, and with it every replica.
Nothing here runs an event loop or a thread: a fork would copy it half done.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from .spec import ReplicaSpec

_PR_SET_PDEATHSIG = 1
_READ_BYTES = 65536

Serve = Callable[[ReplicaSpec], None]


class ForkServer:
    """Forks on command and reaps. Single-threaded; `serve` runs in the child and returns when it is to end."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._pids: dict[str, int] = {}
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)

    def run(self) -> None:
        """Until standard input ends."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is the supervisor's to act on
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write)
        gc.freeze()  # keeps the pages of what is imported shared between the replicas
        pending = b""
        while True:
            readable, _, _ = select.select([0, self._wake_read], [], [])
            if self._wake_read in readable:
                os.read(self._wake_read, _READ_BYTES)
                self._reap()
            if 0 in readable:
                received = os.read(0, _READ_BYTES)
                if not received:
                    return
                *lines, pending = (pending + received).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))

    def _obey(self, command: dict[str, Any]) -> None:
        if "start" in command:
            self._fork(ReplicaSpec.from_json(command["start"]))
        elif (pid := self._pids.get(command["instance"])) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, command["signal"])

    def _fork(self, spec: ReplicaSpec) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_replica(spec, parent)
        self._pids[spec.instance] = pid
        tell("started", spec.instance, pid=pid)

    def _become_replica(self, spec: ReplicaSpec, parent: int) -> NoReturn:
        code = 1
        try:
            die_with_parent(parent)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(self._wake_read)
            os.close(self._wake_write)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.close(nothing)
            self._serve(spec)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            logging.shutdown()
            os._exit(code)

    def _reap(self) -> None:
        for instance, pid in list(self._pids.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._pids[instance]
                tell("ended", instance, code=os.waitstatus_to_exitcode(status))


def tell(event: str, instance: str, **values: int) -> None:
    """Write one event in one piece: lines this short are never mixed in a pipe."""
    os.write(1, json.dumps({"event": event, "instance": instance, **values}).encode() + b"\n")


def die_with_parent(parent: int) -> None:
    """Have the kernel send SIGKILL when `parent` ends; ends at once when it has already. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
