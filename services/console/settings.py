"""What the command line reads from ``TIDEGATE_*``, once per call."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from services.console.hosts import LOOPBACK, read_host
from shared.settings import ServiceSettings


class ConsoleSettings(ServiceSettings):
    """``allowed_hosts``: comma-separated; a target elsewhere is refused. ``data``: the embedded stack's folder.

    Where ``nats_url`` and ``store_dsn`` are both set in the environment, they name the stack to use and none is
    looked for or started.
    """

    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = LOOPBACK
    data: Path = Field(default=Path(".tidegate"))

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(read_host(part) for part in value.split(",") if part.strip())

    @property
    def names_a_stack(self) -> bool:
        return {"nats_url", "store_dsn"} <= self.model_fields_set
