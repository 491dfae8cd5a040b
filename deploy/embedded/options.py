"""What the operator may choose about a stack; passed to the keeper as JSON and checked before anything starts."""

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.embedded.errors import StackError
from shared.settings import PROJECT_ROOT

MAX_WORKERS = 64
_ENVIRONMENT = re.compile(r"^[a-z0-9][a-z0-9-]{0,31}$")

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "collector": (sys.executable, "-m", "services.collector"),
    "platform": (sys.executable, "-m", "examples.platform"),
    "validator": (sys.executable, "-m", "services.validator"),
    "scaler": (sys.executable, "-m", "services.scaler"),
    "forwarder": (sys.executable, "-m", "services.forwarder"),
    "generator": (sys.executable, "-m", "services.generator"),
}


def default_data() -> Path:
    return Path(os.environ.get("TIDEGATE_DATA") or ".tidegate")


@dataclass(frozen=True)
class StackOptions:
    """``None`` as a port means a free one. ``commands`` says how each kind of child is started."""

    data: Path = field(default_factory=default_data)
    workers: int = 2
    platform: bool = True
    environment: str = "local"
    config_dir: Path = PROJECT_ROOT / "config"
    nats_port: int | None = None
    postgres_port: int | None = None
    platform_replicas: Mapping[str, int] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    durable: bool = True
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(COMMANDS))

    def __post_init__(self) -> None:
        if not 0 <= self.workers <= MAX_WORKERS:
            raise StackError(f"--workers: {self.workers} is outside 0 to {MAX_WORKERS}")
        if not _ENVIRONMENT.match(self.environment):
            raise StackError(
                f"--environment: {self.environment!r} is not a name; "
                "use up to 32 of a-z, 0-9 and -, beginning with a-z or 0-9"
            )
        unknown = set(COMMANDS) ^ set(self.commands)
        if unknown:
            raise StackError(f"commands: {', '.join(sorted(unknown))}: give exactly {', '.join(COMMANDS)}")

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "data": str(self.data), "config_dir": str(self.config_dir)})

    @classmethod
    def from_json(cls, text: str) -> "StackOptions":
        fields = json.loads(text)
        fields["data"], fields["config_dir"] = Path(fields["data"]), Path(fields["config_dir"])
        fields["commands"] = {name: tuple(command) for name, command in fields["commands"].items()}
        return cls(**fields)
