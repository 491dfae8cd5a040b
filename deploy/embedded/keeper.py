"""The process that keeps a stack: holds the folder's lock, starts the children, watches them, stops them.

It tells whoever started it how far it is, one JSON object per line on an inherited pipe: ``{"starting": name}``, then
``{"ready": true}`` or ``{"error": line}``. Its own log goes to ``<data>/logs/keeper.log``.
"""

import contextlib
import json
import logging
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from deploy.embedded.errors import StackError
from deploy.embedded.folder import clear_leftovers, prepare_folder
from deploy.embedded.lock import DataLock
from deploy.embedded.options import StackOptions
from deploy.embedded.stack import Stack
from deploy.embedded.state import StackInfo, load_secrets, write_state
from deploy.embedded.workers import WantedWorkers, WorkersDoor

WATCH_S = 0.2

logger = logging.getLogger(__name__)


def keep_stack(options: StackOptions, status: TextIO) -> int:
    """Start the stack, keep it until SIGTERM or SIGINT, stop it. Exit code 0, or 2 when it could not be started."""
    try:
        with _StopSignals() as signals, _locked(options.data) as data:
            _run(options, data, status, signals)
    except StackError as error:
        logger.error("%s", error)  # noqa: TRY400 - one line says it
        _tell(status, error=str(error))
        return 2
    return 0


def _run(options: StackOptions, data: Path, status: TextIO, signals: "_StopSignals") -> None:
    clear_leftovers(data)
    stack = Stack(options, data, load_secrets(data))
    wanted = WantedWorkers(options.workers)
    door = WorkersDoor(stack.plan.workers_url, wanted, lambda: [member.url or "" for member in stack.workers])
    started_at = time.time()
    try:
        door.open()
        stack.start(lambda name: _tell(status, starting=name), lambda: signals.received)
        write_state(_describe(stack, options, data, started_at))
        _tell(status, ready=True)
        logger.info("ready")
        while not signals.wait(WATCH_S):
            now = time.monotonic()
            restarted = stack.restart_dead(now)
            if _keep_workers(stack, wanted.count, now) or restarted:
                write_state(_describe(stack, options, data, started_at))
    except OSError as error:
        raise StackError(f"keeper: {error}") from error
    finally:
        door.close()
        stack.stop()
        (data / "stack.json").unlink(missing_ok=True)
        logger.info("stopped")


def _keep_workers(stack: Stack, count: int, now: float) -> bool:
    try:
        return stack.keep_workers(count, now)
    except StackError as error:
        logger.error("%s", error)  # noqa: TRY400 - one line says it; the next look tries again
        return True


def _describe(stack: Stack, options: StackOptions, data: Path, started_at: float) -> StackInfo:
    return StackInfo(
        data=data,
        keeper_pid=os.getpid(),
        environment=options.environment,
        nats_url=stack.nats_url,
        store_dsn=stack.store_dsn,
        otlp_endpoint=stack.plan.otlp_endpoint,
        services={member.name: member.describe() for member in stack.members},
        platform=stack.plan.platform,
        workers=len(stack.workers),
        started_at=started_at,
        workers_url=stack.plan.workers_url,
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    data = prepare_folder(folder)
    lock = DataLock(data)
    try:
        yield data
    finally:
        lock.release()


def _tell(status: TextIO, **message: object) -> None:
    # Whoever asked may have gone; the stack is kept all the same.
    with contextlib.suppress(OSError):
        status.write(json.dumps(message) + "\n")
        status.flush()


class _StopSignals:
    """Notes SIGTERM and SIGINT and wakes the wait, without a thread and without blocking them for the children."""

    def __init__(self) -> None:
        self.received = False

    def __enter__(self) -> "_StopSignals":
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal may close; the stack stays
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)

    def _note(self, *_: object) -> None:
        self.received = True

    def wait(self, timeout_s: float) -> bool:
        """True once a signal has come; False after ``timeout_s`` without one."""
        if not self.received:
            select.select([self._reader], [], [], timeout_s)
        return self.received
