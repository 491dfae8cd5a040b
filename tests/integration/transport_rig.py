"""Both transports, requests for them to send, and scripts of a server that answers every request alike."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.generator.aiohttp_transport import AiohttpTransport
from services.generator.http1_transport import Http1Transport
from services.generator.transport import Endpoint, Origin, Request, Response, Timeouts, Transport
from shared.clock import monotonic_us
from shared.contracts.client import Client
from tests.integration.misbehaving import Caller, Misbehaving, Script

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
ALLOWED = frozenset({"127.0.0.1", "nowhere.invalid"})
QUICK = Timeouts(total_s=0.5, connect_s=0.3)


def transport_fixture() -> Any:
    """``transport`` of a module: each of its tests runs on both."""

    @pytest.fixture(params=["http1", "aiohttp"])
    async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
        made: Transport = (
            Http1Transport(verify_tls=False)
            if request.param == "http1"
            else AiohttpTransport(Client(transport="aiohttp", verify_tls=False), ALLOWED)
        )
        yield made
        await made.close()

    return transport


def ask(port: int, **changes: object) -> Request:
    """A GET of a path unless ``changes``, fields of a request or its endpoint (``fixed``: its headers), differ."""
    changes.setdefault("origin", Origin("http", "127.0.0.1", port))
    own = {name: changes.pop(name) for name in ("path", "headers", "body") if name in changes}
    if "fixed" in changes:
        changes["headers"] = changes.pop("fixed")
    endpoint = Endpoint(**({"method": "GET"} | changes))  # type: ignore[arg-type]
    return Request(endpoint, **({"path": "/things?q=%20a"} | own))  # type: ignore[arg-type]


async def send(transport: Transport, request: Request) -> Response:
    return await transport.send(request, monotonic_us())


async def one(transport: Transport, script: Script, **changes: object) -> Response:
    async with Misbehaving(script) as server:
        return await send(transport, ask(server.port, **changes))


def always(*pieces: bytes, pause_s: float = 0.0, close: bool = False) -> Script:
    async def script(caller: Caller) -> None:
        while await caller.request():
            await caller.say(*pieces, pause_s=pause_s)
            if close:
                return

    return script
