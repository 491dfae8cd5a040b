"""Which hosts load may be sent to, and what a target URL has to look like. Pure."""

from collections.abc import Collection
from urllib.parse import urlsplit

from shared.errors import ConfigError

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def read_host(text: str) -> str:
    """A host name or address as URLs compare it; ``ValueError`` for anything with a scheme, port or path."""
    host = text.strip().strip("[]").rstrip(".").lower()
    # A colon belongs to an IPv6 address, which has at least two.
    if not host or any(c in host for c in "/@*?# ") or host.count(":") == 1:
        raise ValueError(f"{text!r} is no host name; write it without scheme and port, e.g. staging.example.com")
    return host


def check_proxy(scenario: str, url: str, allowed: Collection[str]) -> None:
    """``ConfigError`` when the host of a scenario's proxy is not on the allow-list."""
    host = urlsplit(url).hostname or ""
    if host not in allowed:
        raise ConfigError(
            f"proxy of {scenario}: {url!r}: host {host!r} is not in the allow-list ({', '.join(allowed)}); "
            f"add it with --allow-host {host} or TIDEGATE_ALLOWED_HOSTS, if you may send requests through it"
        )


def check_target(system: str, url: str, allowed: Collection[str]) -> str:
    """The base URL without its last slash; ``ConfigError`` when it is none, or its host is not on the allow-list."""
    shown = f"target of {system}: {url!r}"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{shown} is no URL ({error})") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{shown} is no http or https URL; write e.g. {system}=http://127.0.0.1:8000")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"target of {system} carries credentials; put them into TIDEGATE_SECRET_* of the workers")
    if parts.query or parts.fragment:
        raise ConfigError(f"{shown} has a query or fragment; a target is a base URL")
    if host.rstrip(".").lower() not in allowed:
        raise ConfigError(
            f"{shown}: host {host!r} is not in the allow-list ({', '.join(allowed)}); "
            f"add it with --allow-host {host} or TIDEGATE_ALLOWED_HOSTS, if you may put load on it"
        )
    return url.rstrip("/")
