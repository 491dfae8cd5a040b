"""What is known of a running stack (``<data>/stack.json``) and its passwords (``<data>/secrets.json``), both 0600.

The state file is a report, not a proof of life: the lock is. See ``control.read_stack``.
"""

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from deploy.embedded.errors import StackError
from deploy.embedded.private_file import write_private


@dataclass(frozen=True)
class ServiceInfo:
    """``created_at`` is the process's start in seconds since the epoch: with ``pid`` it names one process for good."""

    pid: int
    url: str | None
    log: str
    restarts: int = 0
    created_at: float = 0.0


@dataclass(frozen=True)
class PlatformInfo:
    """``targets``: base URL of each system under test."""

    supervisor_url: str
    targets: dict[str, str]


@dataclass(frozen=True)
class StackInfo:
    """A stack that is up. The URLs hold passwords: show them through ``redacted``. ``workers_url``: where the number of
    generator workers is asked for and changed."""

    data: Path
    keeper_pid: int
    environment: str
    nats_url: str
    store_dsn: str
    otlp_endpoint: str
    services: dict[str, ServiceInfo]
    platform: PlatformInfo | None
    workers: int
    started_at: float
    workers_url: str = ""

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "data": str(self.data)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "StackInfo":
        fields: dict[str, Any] = json.loads(text)
        fields["data"] = Path(fields["data"])
        fields["services"] = {name: ServiceInfo(**service) for name, service in fields["services"].items()}
        fields["platform"] = PlatformInfo(**fields["platform"]) if fields["platform"] else None
        return cls(**fields)

    def redacted(self) -> dict[str, Any]:
        """As plain data without passwords, for people and logs."""
        shown: dict[str, Any] = json.loads(self.to_json())
        for name in ("nats_url", "store_dsn"):
            shown[name] = hide_password(shown[name])
        return shown


def hide_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def read_state(data: Path) -> StackInfo | None:
    """The last report written, whether or not its stack still lives; None when there is none that can be read."""
    try:
        return StackInfo.from_json((data / "stack.json").read_text())
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_state(info: StackInfo) -> None:
    write_private(info.data / "stack.json", info.to_json())


@dataclass(frozen=True)
class Secrets:
    """Random, made once for a data folder; the store's is the cluster's own and cannot be lost without it."""

    nats: str
    postgres: str
    platform: str
    platform_signing: str


def load_secrets(data: Path) -> Secrets:
    """Read the folder's secrets, made now if it has none. Raises ``StackError`` when the file is unusable."""
    path = data / "secrets.json"
    try:
        return Secrets(**json.loads(path.read_text()))
    except FileNotFoundError:
        made = Secrets(*(secrets.token_hex(32) for _ in range(4)))
        try:
            write_private(path, json.dumps(asdict(made)))
        except OSError as error:
            raise StackError(f"{path}: cannot be written: {error.strerror}") from error
        return made
    except (OSError, ValueError, TypeError) as error:
        raise StackError(f"{path}: cannot be used ({error}); restore it, or choose another --data folder") from error
