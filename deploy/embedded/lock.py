"""Who holds a data folder: an flock on ``<data>/lock``, which the kernel lets go of however its holder ends.

The holder's process number is written into the file for those who want to stop it; the number alone proves nothing.
"""

import fcntl
import os
import time
from pathlib import Path

from deploy.embedded.errors import StackError

ACQUIRE_S = 1.0


class DataLock:
    """Held from construction until ``release`` or the end of this process. Never inherited by children."""

    def __init__(self, data: Path) -> None:
        """Raises ``StackError`` when another process holds the folder."""
        self._descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + ACQUIRE_S
        # A moment of patience: somebody may only be looking whether the lock is held.
        while not _try_flock(self._descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                os.close(self._descriptor)
                raise StackError(describe_held(data))
            time.sleep(0.02)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def read_holder(data: Path) -> int | None:
    """The process that holds the folder, or None when nobody does (or its number is not written yet)."""
    try:
        descriptor = os.open(data / "lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        if _try_flock(descriptor, fcntl.LOCK_SH):
            return None
        written = os.pread(descriptor, 32, 0).strip()
        return int(written) if written.isdigit() else None
    finally:
        os.close(descriptor)


def describe_held(data: Path) -> str:
    keeper = f"keeper process {read_holder(data) or 'still starting'}"
    return f"a stack is already up on {data} ({keeper}); stop it with `tidegate down --data {data}`"


def _try_flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
