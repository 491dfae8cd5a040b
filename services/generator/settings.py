"""What a generator worker reads from the environment."""

import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from shared.config import read_text
from shared.errors import ConfigError
from shared.settings import ServiceSettings

SECRET_PREFIX = "TIDEGATE_SECRET_"  # noqa: S105 - the prefix of variable names
FILE_SUFFIX = "_FILE"


def _worker_id() -> str:
    return f"{socket.gethostname().lower().replace('.', '-')}-{os.getpid()}-{secrets.token_hex(2)}"


class GeneratorSettings(ServiceSettings):
    """``allowed_hosts``: where this worker may send at all, whatever a run asks for. ``flow_modules``: Python modules
    (and what is below them) whose coroutines a scenario may name in ``call``; none unless they are listed.

    ``max_…`` are caps of each run, held even where the run itself asks for more: a run of more users or of a longer
    duration is refused, requests past ``max_rate`` per second wait, those past ``max_requests`` in all are not sent.
    ``memory_limit_mb`` bounds frames kept in memory while the broker is away; past it they go to ``spool_dir``.
    """

    worker_id: str = Field(default_factory=_worker_id, pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    allowed_hosts: Annotated[frozenset[str], NoDecode] = frozenset({"127.0.0.1", "localhost", "::1"})
    spool_dir: Path = Path(".tidegate/spool")
    memory_limit_mb: int = Field(default=64, ge=1)
    graceful_stop_s: float = Field(default=10.0, ge=0)
    flow_modules: Annotated[frozenset[str], NoDecode] = frozenset()
    max_users: int = Field(default=20_000, ge=1)
    max_duration_s: float | None = Field(default=None, gt=0)
    max_rate: float | None = Field(default=None, gt=0)
    max_requests: int | None = Field(default=None, ge=1)

    @field_validator("allowed_hosts", "flow_modules", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return frozenset(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def read_secrets(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Secrets by lower-case name; they never leave this process.

    Each from ``TIDEGATE_SECRET_<NAME>``, or from the file that ``TIDEGATE_SECRET_<NAME>_FILE`` names, its last line
    break left out. ``ConfigError`` names the variable whose file cannot be used, and never what is in it.
    """
    found: dict[str, str] = {}
    for key in sorted(environment):
        if not key.startswith(SECRET_PREFIX):
            continue
        name = key.removeprefix(SECRET_PREFIX)
        if name.endswith(FILE_SUFFIX):
            name, value = name.removesuffix(FILE_SUFFIX), _read_secret(key, Path(environment[key]))
        else:
            value = environment[key]
        if name.lower() in found:
            raise ConfigError(f"{SECRET_PREFIX}{name} is set, and {key} too; leave one of them out")
        found[name.lower()] = value
    return found


def _read_secret(variable: str, path: Path) -> str:
    text = read_text(path, f"{variable}={path}").removesuffix("\n").removesuffix("\r")
    if not text:
        raise ConfigError(f"{variable}={path}: the file is empty; it holds the secret and nothing else")
    return text
