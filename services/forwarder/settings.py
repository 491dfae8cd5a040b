"""What the forwarder reads from the environment, and whether its endpoints may be used."""

import base64
import binascii
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import field_validator
from pydantic_settings import NoDecode

from shared.contracts.webhooks import Endpoint, Webhooks
from shared.errors import ConfigError
from shared.settings import ServiceSettings

SECRET_PREFIX = "TIDEGATE_WEBHOOK_SECRET_"  # noqa: S105 - the prefix of variable names
LEAST_SECRET_BYTES = 24


class ForwarderSettings(ServiceSettings):
    """``webhooks``: the document, ``webhooks.yaml`` in ``config_dir`` where it is not given. ``webhook_hosts``: where
    this process may send at all, whatever the document says.
    """

    webhooks: Path | None = None
    webhook_hosts: Annotated[frozenset[str], NoDecode] = frozenset({"127.0.0.1", "localhost", "::1"})

    @field_validator("webhook_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return frozenset(part.strip().strip("[]").lower() for part in value.split(",") if part.strip())

    @property
    def webhooks_path(self) -> Path:
        return self.webhooks or self.config_dir / "webhooks.yaml"


def check_hosts(document: Webhooks, allowed: Collection[str]) -> None:
    """``ConfigError`` when the host of an endpoint is not on the allow-list."""
    for endpoint in document.endpoints:
        if endpoint.host not in allowed:
            raise ConfigError(
                f"endpoint {endpoint.name}: host {endpoint.host!r} is not in the allow-list "
                f"({', '.join(sorted(allowed))}); add it with TIDEGATE_WEBHOOK_HOSTS, if breaches may be sent there"
            )


def keys_of(endpoint: Endpoint, secrets: Mapping[str, str]) -> tuple[bytes, ...]:
    """The signing keys of an endpoint: ``whsec_`` and base64, several with spaces between while one replaces another.

    ``ConfigError`` names the variable and never what is in it.
    """
    variable = SECRET_PREFIX + endpoint.secret.upper()
    text = secrets.get(endpoint.secret.lower())
    if text is None:
        raise ConfigError(
            f"endpoint {endpoint.name}: {variable} is not set, nor {variable}_FILE; it signs what is sent"
        )
    return tuple(_key(part, variable) for part in text.split()) or (_key("", variable),)


def _key(text: str, variable: str) -> bytes:
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if len(key) < LEAST_SECRET_BYTES:
        raise ConfigError(
            f"{variable}: is not whsec_ and the base64 of at least {LEAST_SECRET_BYTES} random bytes; "
            "make one with: echo whsec_$(openssl rand -base64 32)"
        )
    return key
