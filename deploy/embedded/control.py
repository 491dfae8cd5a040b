"""Starting, finding and stopping a stack from another process: what the console uses."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from deploy.embedded.errors import StackError
from deploy.embedded.folder import prepare_folder, rotate_logs
from deploy.embedded.lock import ACQUIRE_S, describe_held, read_holder
from deploy.embedded.options import StackOptions
from deploy.embedded.process import read_log_tail
from deploy.embedded.state import StackInfo, read_state
from shared.settings import PROJECT_ROOT

START_S = 180.0
STOP_S = 90.0

# Keepers that are children of this process, to be reaped when they end; dropping them would leave zombies.
_keepers: dict[int, "subprocess.Popen[bytes]"] = {}


def start_stack(options: StackOptions, on_progress: Callable[[str], None] | None = None) -> StackInfo:
    """Start a stack that outlives this process, and return once all of it is ready.

    ``on_progress`` is called with the name of each part as it starts. Raises ``StackError`` with one line that names
    what failed and the end of its log; nothing is left running then, nor on Ctrl-C.
    """
    if sys.platform != "linux":
        raise StackError(f"the embedded stack runs on Linux, not on {sys.platform}; use docker-compose.yml there")
    data = prepare_folder(options.data)
    _reap_ended()
    _refuse_if_held(data)
    rotate_logs(data)
    keeper, status = _spawn_keeper(replace(options, data=data))
    try:
        _follow(status, data, on_progress or (lambda _: None))
        info = _read_started(data)
    except BaseException:
        keeper.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            keeper.wait(STOP_S)
        keeper.kill()  # its children die with it
        keeper.wait()
        raise
    finally:
        os.close(status)
    _keepers[keeper.pid] = keeper
    return info


def read_stack(data: Path) -> StackInfo | None:
    """The stack that is up and ready on a folder; None when there is none, whatever files a killed one left."""
    holder, info = read_holder(data), read_state(data)
    return info if info is not None and info.keeper_pid == holder else None


def stop_stack(data: Path, timeout_s: float = STOP_S) -> bool:
    """Stop the stack on a folder, ready or still starting. False when there is none.

    Returns once it is gone; past ``timeout_s`` its keeper is killed, and every child dies with it.
    """
    holder = read_holder(data)
    if holder is None:
        return False
    try:
        handle = os.pidfd_open(holder)
    except ProcessLookupError:
        return False
    try:
        if read_holder(data) != holder:  # it ended and its number was given away before we had the handle
            return False
        for number, patience_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 10.0)):
            signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], patience_s)[0]:
                break
        else:
            raise StackError(f"keeper {holder} cannot be ended; see {data / 'logs' / 'keeper.log'}")
    except PermissionError as error:
        raise StackError(f"the stack on {data} belongs to another user; stop it as that user") from error
    finally:
        os.close(handle)
    if (keeper := _keepers.pop(holder, None)) is not None:
        keeper.wait()
    return True


def _refuse_if_held(data: Path) -> None:
    deadline = time.monotonic() + ACQUIRE_S  # a keeper that was killed a moment ago may not be quite gone
    while read_holder(data) is not None:
        if time.monotonic() > deadline:
            raise StackError(describe_held(data))
        time.sleep(0.02)


def _reap_ended() -> None:
    for pid, keeper in list(_keepers.items()):
        if keeper.poll() is not None:
            del _keepers[pid]


def _spawn_keeper(options: StackOptions) -> tuple["subprocess.Popen[bytes]", int]:
    reader, writer = os.pipe()
    log = options.data / "logs" / "keeper.log"
    try:
        with log.open("ab") as output:
            keeper = subprocess.Popen(
                [sys.executable, "-m", "deploy.embedded", "--data", str(options.data), "--status-fd", str(writer)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=PROJECT_ROOT,
                pass_fds=(writer,),
                start_new_session=True,
            )
    except OSError as error:
        os.close(reader)
        raise StackError(f"keeper: cannot be started: {error}") from error
    finally:
        os.close(writer)
    with contextlib.suppress(BrokenPipeError), keeper.stdin or contextlib.nullcontext() as stdin:
        if stdin is not None:
            stdin.write(options.to_json().encode())
    return keeper, reader


def _read_started(data: Path) -> StackInfo:
    info = read_stack(data)
    if info is None:
        raise StackError(f"keeper: ended as soon as it was ready (log: {data / 'logs' / 'keeper.log'})")
    return info


def _follow(status: int, data: Path, on_progress: Callable[[str], None]) -> None:
    for line in _read_lines(status, time.monotonic() + START_S):
        message = json.loads(line)
        if "error" in message:
            raise StackError(message["error"])
        if "ready" in message:
            return
        on_progress(message["starting"])
    log = data / "logs" / "keeper.log"
    raise StackError(f"keeper: ended or was not ready within {START_S:g} s: {read_log_tail(log, 1)} (log: {log})")


def _read_lines(descriptor: int, deadline: float) -> Iterator[bytes]:
    """Whole lines until the other end closes or ``deadline`` (monotonic seconds) passes."""
    rest = b""
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
