"""What a generator worker reads from the environment."""

import os
import secrets
import socket
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from shared.settings import ServiceSettings

SECRET_PREFIX = "TIDEGATE_SECRET_"  # noqa: S105 - the prefix of variable names


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
