"""The data folder of a stack, made ready before anything is started in it, and rid of what a killed stack left."""

import os
import tempfile
import time
from pathlib import Path

import psutil

from deploy.embedded.errors import StackError
from deploy.embedded.state import read_state

LEFTOVER_S = 5.0
LOG_LIMIT_BYTES = 10 * 1024 * 1024


def prepare_folder(data: Path) -> Path:
    """Make the folder and its ``logs`` unless they are there; returns the absolute path.

    Raises ``StackError`` naming the folder when it is none, cannot be made, or cannot be written.
    """
    way_out = "choose another folder with --data"
    if data.exists() and not data.is_dir():
        raise StackError(f"--data: {data} is not a folder; {way_out}")
    try:
        (data / "logs").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data):
            pass
    except OSError as error:
        raise StackError(f"--data: {data} cannot be written: {error.strerror}; {way_out}") from error
    return data.resolve()


def rotate_logs(data: Path) -> None:
    """Put logs that have grown large aside as ``NAME.log.1``, replacing what was put aside before."""
    for log in (data / "logs").glob("*.log"):
        if log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".log.1"))


def clear_leftovers(data: Path) -> None:
    """Return once no child of a former, killed keeper is alive, and forget its report. The lock must be held.

    The kernel ends such children with their keeper; this waits for it, and kills what the kernel could not reach.
    """
    former = read_state(data)
    known = list(former.services.values()) if former else []
    # The start time tells a child from a stranger that was given its number since.
    alive = [process for service in known if (process := _find(service.pid, service.created_at))]
    deadline = time.monotonic() + LEFTOVER_S
    while alive and time.monotonic() < deadline:
        time.sleep(0.02)
        alive = [process for process in alive if _is_alive(process)]
    for process in alive:
        process.kill()
    (data / "stack.json").unlink(missing_ok=True)


def is_process(pid: int, created_at: float) -> bool:
    """Whether the process of that number and start time is alive (and not merely unreaped)."""
    return _find(pid, created_at) is not None


def _find(pid: int, created_at: float) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - created_at) < 0.05
    except psutil.Error:
        return None
    return process if same and pid != os.getpid() and _is_alive(process) else None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
