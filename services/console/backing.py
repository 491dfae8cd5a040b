"""The stack a command works with: the one that is named, the one that is up, or one started for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.embedded import StackInfo, StackOptions, read_stack, start_stack, stop_stack
from services.console.settings import ConsoleSettings
from shared.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Backing:
    """Addresses of a stack. ``targets``: base URLs of the stand-in platform, empty where there is none."""

    nats_url: str = field(repr=False)
    store_dsn: str = field(repr=False)
    environment: str
    targets: dict[str, str] = field(default_factory=dict)
    supervisor_url: str | None = None


def find_backing(settings: ConsoleSettings, data: Path) -> Backing | None:
    """The stack the environment names, else the embedded one on ``data``; None when that is not up."""
    if settings.names_a_stack:
        return Backing(settings.nats_url, settings.store_dsn, settings.environment)
    info = read_stack(data)
    return None if info is None else _backing_of(info)


def need_backing(settings: ConsoleSettings, data: Path) -> Backing:
    """As ``find_backing``; ``ConfigError`` when there is none."""
    backing = find_backing(settings, data)
    if backing is None:
        raise ConfigError(
            f"no stack is up on {data}; start it with tidegate up --data {data}, "
            f"or name one with TIDEGATE_NATS_URL and TIDEGATE_STORE_DSN"
        )
    return backing


@contextmanager
def own_backing(options: StackOptions, on_progress: Callable[[str], None]) -> Iterator[Backing]:
    """An embedded stack for as long as the block lasts."""
    info = start_stack(options, on_progress)
    try:
        yield _backing_of(info)
    finally:
        stop_stack(info.data)


def _backing_of(info: StackInfo) -> Backing:
    platform = info.platform
    return Backing(
        nats_url=info.nats_url,
        store_dsn=info.store_dsn,
        environment=info.environment,
        targets=dict(platform.targets) if platform else {},
        supervisor_url=platform.supervisor_url if platform else None,
    )
