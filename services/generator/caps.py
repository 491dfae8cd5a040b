"""What a worker takes at most and where it sends at all, whatever a run asks for; pure."""

from typing import Protocol
from urllib.parse import urlsplit

from shared.contracts.run import RunDesired
from shared.errors import ConfigError


class Caps(Protocol):
    """What a worker takes at most, whatever a run asks for; None: no cap of its own."""

    @property
    def allowed_hosts(self) -> frozenset[str]: ...
    @property
    def max_users(self) -> int: ...
    @property
    def max_duration_s(self) -> float | None: ...
    @property
    def max_rate(self) -> float | None: ...
    @property
    def max_requests(self) -> int | None: ...
    @property
    def flow_modules(self) -> frozenset[str]: ...


def check_limits(desired: RunDesired, caps: Caps) -> None:
    """``ConfigError`` when a run is too big or too long for this worker, or a target's host is not allowed by both."""
    if desired.users > caps.max_users:
        raise ConfigError(f"{desired.users} users are more than TIDEGATE_MAX_USERS={caps.max_users} of this worker")
    if caps.max_duration_s is not None and desired.duration_s > caps.max_duration_s:
        raise ConfigError(
            f"a duration of {desired.duration_s:g} s is more than TIDEGATE_MAX_DURATION_S={caps.max_duration_s:g} "
            "of this worker"
        )
    places = [(f"target {system}", url) for system, url in desired.targets.items()]
    places += [("proxy", load.scenario.client.proxy) for load in desired.loads if load.scenario.client.proxy]
    for what, url in places:
        host = urlsplit(url).hostname or ""
        if host not in desired.allowed_hosts or host not in caps.allowed_hosts:
            raise ConfigError(f"{what}={url}: host {host!r} is not in the allow-list of this worker")
