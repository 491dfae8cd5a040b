"""One service of the stack as a child process that says over HTTP when it is ready."""

import http.client
import logging
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from deploy.embedded.errors import StackError
from deploy.embedded.process import Child, read_log_tail, start_child
from shared.settings import PROJECT_ROOT

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServiceSpec:
    """``kind`` is the command's name, ``name`` tells two of a kind apart; ``url`` answers ``GET /health``."""

    name: str
    kind: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    url: str
    log: Path


class Service:
    """``start``, ``wait_ready``, ``stop``; may be started again after its end."""

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec
        self._child: Child | None = None

    @property
    def child(self) -> Child:
        if self._child is None:
            raise StackError(f"{self.spec.name}: is not started")
        return self._child

    def start(self) -> None:
        self._child = start_child(self.spec.name, self.spec.command, self.spec.log, env=self.spec.env, cwd=PROJECT_ROOT)

    def wait_ready(self, timeout_s: float, is_cancelled: Callable[[], bool]) -> None:
        """Until ``GET /health`` answers 200. ``StackError`` with the log's end when it will not."""
        deadline = time.monotonic() + timeout_s
        while not is_healthy(self.spec.url):
            code = self.child.poll()
            if code is not None:
                raise self._failure(f"ended with code {code} while starting")
            if time.monotonic() > deadline:
                raise self._failure(f"was not ready within {timeout_s:g} s")
            if is_cancelled():
                raise StackError("stopped while starting")
            time.sleep(0.05)

    def ask_to_stop(self) -> None:
        if self._child is not None:
            self._child.send(signal.SIGTERM)

    def finish(self, timeout_s: float) -> None:
        """Wait for the end that was asked for; past the deadline, kill."""
        if self._child is not None and self._child.wait(timeout_s) is None:
            logger.warning("%s did not stop in time; killed", self.spec.name)
            self._child.kill()

    def _failure(self, what: str) -> StackError:
        tail = read_log_tail(self.spec.log) or "it logged nothing"
        return StackError(f"{self.spec.name}: {what}: {tail} (log: {self.spec.log})")


def is_healthy(url: str, timeout_s: float = 1.0) -> bool:
    """Whether ``GET <url>/health`` answers 200; straight to the address, whatever proxies are configured."""
    return read_health(url, timeout_s) == (200, "")


def read_health(url: str, timeout_s: float = 1.0) -> tuple[int, str]:
    """Status of ``GET <url>/health`` and, unless it is 200, the answer's text or the error; status 0 for none."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
        text = response.read(2048).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()
    return response.status, "" if response.status == 200 else text
