"""Typed settings, read once from ``TIDEGATE_*``; each service extends the base with its own fields.

An unusable value ends in ``SettingsError``: one line per field with the variable's name and what would be right.
"""

from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import ConfigError

PROJECT_ROOT = Path(__file__).resolve().parent.parent

S = TypeVar("S", bound="ServiceSettings")


class SettingsError(ConfigError):
    """An environment variable is missing or unusable."""


class ServiceSettings(BaseSettings):
    """What every service needs to find its neighbours.

    ``otlp_endpoint``, ``otlp_metrics_endpoint``: base URLs of OTLP/HTTP receivers for spans and for what ``/metrics``
    shows, the latter every ``otlp_metrics_interval_s``; nothing is sent where they are not given. ``benchmarks``: file
    to judge by, ``benchmarks.yaml`` in ``config_dir`` where it is not given.
    """

    model_config = SettingsConfigDict(env_prefix="TIDEGATE_", extra="ignore", frozen=True, allow_inf_nan=False)

    environment: str = Field(default="local", pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    # Both may carry a password.
    nats_url: str = Field(default="nats://127.0.0.1:4222", repr=False)
    store_dsn: str = Field(default="postgresql://tidegate@127.0.0.1:5432/tidegate", repr=False)
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=0, ge=0, le=65535)
    config_dir: Path = PROJECT_ROOT / "config"
    benchmarks: Path | None = None
    otlp_endpoint: str | None = None
    otlp_metrics_endpoint: str | None = Field(default=None, pattern=r"^https?://[^/\s]+")
    otlp_metrics_interval_s: float = Field(default=10.0, ge=0.1, le=600)
    log_level: str = Field(default="INFO", pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")

    @property
    def benchmarks_path(self) -> Path:
        return self.benchmarks or self.config_dir / "benchmarks.yaml"


def read_settings(kind: type[S]) -> S:
    """Read one settings class from the environment, or raise ``SettingsError`` naming variable, value and rule."""
    try:
        return kind()
    except ValidationError as error:
        prefix = str(kind.model_config.get("env_prefix", ""))
        lines = []
        for item in error.errors():
            variable = prefix + "_".join(str(part) for part in item["loc"]).upper()
            lines.append(f"{variable}={item.get('input')!r}: {item['msg'].removeprefix('Value error, ')}")
        raise SettingsError("; ".join(lines)) from error
