"""The supervisor's settings from the environment and `platform.yaml`. A bad one is named in one line."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..replica.spec import KINDS_OF_WORK, SYSTEMS, ServiceConfig

Port = Annotated[int, Field(ge=0, le=65535)]
_PREFIX = "TIDEGATE_PLATFORM_"
_SHORTEST_SECRET = 32  # bytes; RFC 7518 section 3.2 for HS256


class ConfigError(Exception):
    """The operator's fault; the message names the setting, its value and what would be right."""


class PlatformSettings(BaseSettings):
    """Environment variables `TIDEGATE_PLATFORM_*`. Port 0 takes a free one.

    `cpu_cores`, `memory_mib`: the budget that `room` is counted by; without it only the services' limits count.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, extra="ignore")

    port: Port = 0
    autmatrix_port: Port = 0
    relaycore_port: Port = 0
    neuroweaver_port: Port = 0
    password: str = "tidegate-demo"  # noqa: S105 - the demo's, known to everybody
    secret: str = Field(default_factory=lambda: secrets.token_hex(32), min_length=_SHORTEST_SECRET)
    data: Path | None = None
    config: Path = Path(__file__).parent.parent / "platform.yaml"
    state_file: Path | None = None
    cpu_cores: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    memory_mib: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    token_ttl_s: float = Field(default=900.0, gt=0, le=86_400)
    otlp_endpoint: str | None = Field(
        default=None, validation_alias="TIDEGATE_OTLP_ENDPOINT", pattern=r"^https?://[^/\s]+"
    )

    def front_door_port(self, system: str) -> int:
        """The port of `system`'s front door."""
        return int(getattr(self, f"{system}_port"))


@contextlib.contextmanager
def name_port(setting: str, port: int) -> Iterator[None]:
    """Turn a failure to listen on `port` into a ConfigError that names the setting."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        advice = "choose another, or 0 for a free one"
        raise ConfigError(f"{_PREFIX}{setting.upper()}: {port}: {reason}; {advice}") from error


def load_settings() -> PlatformSettings:
    """The settings the environment gives. ConfigError on the first bad one."""
    try:
        return PlatformSettings()
    except ValidationError as error:
        raise ConfigError(_first_fault(error, _PREFIX)) from error


def load_services(path: Path, replicas: Mapping[str, int]) -> dict[str, ServiceConfig]:
    """The services of the YAML at `path` by name, with `replicas` in place of what it says. ConfigError when bad."""
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    try:
        services = TypeAdapter(dict[str, ServiceConfig]).validate_python(document)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_fault(error)}") from error
    _check_services(path, services)
    for name, count in replicas.items():
        if name not in services:
            raise ConfigError(f"--replicas {name}: unknown service; would be one of {', '.join(services)}")
        config = services[name]
        if not config.min <= count <= config.max:
            raise ConfigError(f"--replicas {name}={count}: outside {config.min} to {config.max}")
        services[name] = replace(config, replicas=count)
    return services


def _check_services(path: Path, services: Mapping[str, ServiceConfig]) -> None:
    if sorted(config.system for config in services.values()) != sorted(SYSTEMS):
        raise ConfigError(f"{path}: each of the systems {', '.join(SYSTEMS)} must have exactly one service")
    for name, config in services.items():
        if not config.min <= config.replicas <= config.max:
            raise ConfigError(f"{path}: {name}.replicas: {config.replicas} is outside {config.min} to {config.max}")
        if fault := config.sizes.fault():
            raise ConfigError(f"{path}: {name}.sizes.{fault}")
        kinds = KINDS_OF_WORK[config.system]
        if set(config.service_time) != set(kinds):
            named = ", ".join(sorted(config.service_time))
            raise ConfigError(f"{path}: {name}.service_time: has {named}; would be {', '.join(kinds)}")


def _first_fault(error: ValidationError, prefix: str = "") -> str:
    """The first fault as `field: value: what would be right`, without the secrets' values."""
    fault: Any = error.errors()[0]
    where = [str(part) for part in fault["loc"]]
    name = ".".join(where)
    if prefix and not name.startswith("TIDEGATE_"):
        name = prefix + name.upper()
    if fault["type"] == "unexpected_keyword_argument":
        return f"{name}: unknown field"
    if fault["type"] in ("missing", "missing_argument"):
        return f"{name}: is missing"
    shown = "" if where and where[-1] in ("secret", "password") else f" {fault['input']!r}:"
    return f"{name}:{shown} {fault['msg'][0].lower()}{fault['msg'][1:]}"
