"""The keeper's HTTP door to the number of generator workers, in the words of a platform's supervisor.

``GET /services/generator`` says how many there are, ``PUT /services/generator/replicas {replicas, epoch, decision}``
how many there should be: 409 for an epoch older than one heard before, 422 outside the limits. The door only keeps the
number; its keeper starts and stops workers in its own thread, to which their lives are tied.
"""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from deploy.embedded.errors import StackError
from deploy.embedded.options import MAX_WORKERS
from deploy.embedded.ports import LOOPBACK
from deploy.embedded.service import is_healthy

SERVICE = "generator"
MAX_BODY = 4096
HEALTH_S = 0.5


@dataclass(frozen=True)
class Answer:
    """``status`` of HTTP and what is said with it."""

    status: int
    body: dict[str, Any]


class WantedWorkers:
    """How many workers there should be, by the latest epoch that asked."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._epoch = 0
        self._lock = threading.Lock()

    def ask(self, body: Any) -> Answer:
        """Take ``{replicas, epoch}``, or refuse with the reason."""
        replicas, epoch = (body.get(name) if isinstance(body, dict) else None for name in ("replicas", "epoch"))
        if type(replicas) is not int or type(epoch) is not int:
            return Answer(422, {"error": "give replicas and epoch, both whole numbers"})
        if not 0 <= replicas <= MAX_WORKERS:
            return Answer(422, {"error": f"replicas: {replicas} is outside 0 to {MAX_WORKERS}"})
        with self._lock:
            if epoch < self._epoch:
                return Answer(409, {"error": f"epoch {epoch} is older than {self._epoch}"})
            self._epoch, self.count = epoch, replicas
        return Answer(202, {"service": SERVICE, "desired": replicas})


def describe(wanted: int, urls: list[str]) -> dict[str, Any]:
    """What is so of the workers at these addresses. A worker keeps one core busy at most, so there is room for as many
    as there are cores without one."""
    ready = sum(is_healthy(url, HEALTH_S) for url in urls)
    return {
        "service": SERVICE,
        "desired": wanted,
        "ready": ready,
        "starting": max(0, len(urls) - ready),
        "room": max(0, len(os.sched_getaffinity(0)) - max(wanted, len(urls))),
        "instances": [],
    }


class WorkersDoor:
    """Serves from ``open`` to ``close``. ``urls`` gives the addresses of the workers that are to stay."""

    def __init__(self, url: str, wanted: WantedWorkers, urls: Callable[[], list[str]]) -> None:
        self._port, self._wanted, self._urls = urlsplit(url).port or 0, wanted, urls
        self._server: ThreadingHTTPServer | None = None

    def open(self) -> None:
        """Raises ``StackError`` when the port is taken."""
        try:
            self._server = ThreadingHTTPServer((LOOPBACK, self._port), self._handler())
        except OSError as error:
            raise StackError(f"workers: cannot listen on {LOOPBACK}:{self._port}: {error.strerror}") from error
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        wanted, urls = self._wanted, self._urls

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                known = self.path == f"/services/{SERVICE}"
                self._say(Answer(200, describe(wanted.count, urls())) if known else UNKNOWN)

            def do_PUT(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                if self.path != f"/services/{SERVICE}/replicas" or length > MAX_BODY:
                    self._say(UNKNOWN)
                    return
                try:
                    body = json.loads(self.rfile.read(length))
                except ValueError:
                    body = None
                self._say(wanted.ask(body))

            def _say(self, answer: Answer) -> None:
                text = json.dumps(answer.body).encode()
                self.send_response(answer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's signature
                pass

        return Handler


UNKNOWN = Answer(404, {"error": f"only the service {SERVICE} is kept here"})
