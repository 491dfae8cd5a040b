"""One child process: its log file, its process group, its death with its parent, and its end by handle.

What the child is, and when it is ready, is left to whoever starts it. Linux only: parent-death signals and
``waitid`` without reaping are what make "nothing is left behind" true here. Children must be started from a thread
that lives as long as they should (the main thread): the kernel ties them to the thread, not to the process.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.embedded.errors import StackError

TETHER = Path(__file__).with_name("tether.py")
POLL_S = 0.01


def start_child(
    name: str,
    command: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> "Child":
    """Start ``command`` in its own session, appending its output to ``log``.

    ``command[0]`` must be an absolute path. ``death_signal`` is what the child gets when this thread ends.
    Raises ``StackError`` when the log cannot be opened or the interpreter cannot be started.
    """
    tethered = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), str(int(death_signal))]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            popen = subprocess.Popen(
                [*tethered, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                start_new_session=True,
            )
    except OSError as error:
        raise StackError(f"{name}: cannot be started: {error}") from error
    return Child(name, popen, log)


class Child:
    """A started process; every signal goes through its handle, never through a looked-up number."""

    def __init__(self, name: str, popen: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.log = log
        self._popen = popen

    @property
    def pid(self) -> int:
        return self._popen.pid

    def poll(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs.

        Once it has ended, whatever remains of its process group is killed before the number is given back.
        """
        if self._popen.returncode is None and self._has_exited():
            self._signal_group(signal.SIGKILL)
            self._popen.wait()
        return self._popen.returncode

    def wait(self, timeout_s: float) -> int | None:
        """Like ``poll``, waiting up to ``timeout_s`` for the end."""
        deadline = time.monotonic() + timeout_s
        while (code := self.poll()) is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return code

    def send(self, number: signal.Signals) -> None:
        if self._popen.returncode is None:
            self._popen.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 10.0) -> int:
        """Ask with ``number``, wait ``timeout_s``, then kill the whole group. Returns the exit code."""
        self.send(number)
        code = self.wait(timeout_s)
        return self.kill() if code is None else code

    def kill(self) -> int:
        """End the whole group at once, as ``kill -9`` would."""
        if self._popen.returncode is None:
            self._signal_group(signal.SIGKILL)
            self._popen.wait()
        return self._popen.returncode

    def _has_exited(self) -> bool:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, options) is not None

    def _signal_group(self, number: signal.Signals) -> None:
        """Safe only while the leader is not yet reaped: until then nobody else can own its number."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            # Before setsid has run, or when the group has changed user: the leader itself is still ours.
            self._popen.send_signal(number)


def read_log_tail(log: Path, lines: int = 3) -> str:
    """The last non-empty lines of a log joined by `` | ``, for a one-line error; empty when there are none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-lines:])
