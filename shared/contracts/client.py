"""Which client sends a scenario's requests, and what it does beyond sending them."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from shared.contracts.base import Document


class Client(Document):
    """What sends the requests. ``http1`` is the fast one; ``aiohttp`` is needed for each of the other options.

    ``connections``: most connections to one system at once from one worker (None: as many as are busy).
    """

    transport: Literal["http1", "aiohttp"] = "http1"
    connections: int | None = Field(default=None, ge=1)
    verify_tls: bool = True
    redirects: bool = False
    cookies: bool = False
    decompress: bool = False
    proxy: str | None = None

    @model_validator(mode="after")
    def _proxy_is_one(self) -> "Client":
        try:
            parts = urlsplit(self.proxy or "http://none")
            whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            whole = False
        if not whole:
            raise ValueError("proxy is no http or https URL; write e.g. http://127.0.0.1:3128")
        if "@" in parts.netloc:
            raise ValueError("proxy carries credentials, which would travel; let the proxy know the workers otherwise")
        return self

    @model_validator(mode="after")
    def _able(self) -> "Client":
        needs = [name for name in ("redirects", "cookies", "decompress", "proxy") if getattr(self, name)]
        if self.transport == "http1" and needs:
            raise ValueError(f"{', '.join(needs)} needs transport: aiohttp; http1 sends each request as it is")
        return self
