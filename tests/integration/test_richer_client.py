"""What only the richer client does: redirects, cookies, compression, a proxy and WebSockets, within the allow-list."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from services.generator.aiohttp_transport import AiohttpTransport
from services.generator.transport import Dialogue, Endpoint, Origin, Request, Response, Timeouts, TokenRule
from shared.clock import monotonic_us
from shared.contracts.client import Client
from shared.contracts.timing import ErrorKind
from tests.integration.misbehaving import Caller, Misbehaving

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def serving(**handlers: Handler) -> AsyncIterator[int]:
    """The port of a server with a handler for each path."""
    app = web.Application()
    app.add_routes([web.get(f"/{path}", handler) for path, handler in handlers.items()])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def send(
    port: int, path: str, body: bytes | None = None, endpoint: dict[str, object] | None = None, **client: object
) -> Response:
    """The answer of one request by a client with these options, which may send to 127.0.0.1 alone."""
    transport = AiohttpTransport(Client.model_validate({"transport": "aiohttp"} | client), {"127.0.0.1"})
    origin = Origin("http", "127.0.0.1", port)
    asked = Request(Endpoint(origin, "GET", **(endpoint or {})), path, (), body, "00-1-2-01")  # type: ignore[arg-type]
    try:
        return await transport.send(asked, monotonic_us())
    finally:
        await transport.close()


async def test_redirects_are_followed_cookies_kept_and_bodies_decompressed() -> None:
    async def begin(_: web.Request) -> web.StreamResponse:
        answer = web.Response(status=302, headers={"Location": "/end"})
        answer.set_cookie("seen", "yes")
        return answer

    async def end(request: web.Request) -> web.StreamResponse:
        answer = web.json_response({"seen": request.cookies.get("seen")})
        answer.enable_compression(web.ContentCoding.gzip)
        return answer

    async with serving(begin=begin, end=end) as port:
        response = await send(port, "/begin", redirects=True, cookies=True, decompress=True)
    assert (response.status, response.body) == (200, b'{"seen": "yes"}')


async def test_a_redirect_to_a_host_outside_the_allow_list_is_not_followed() -> None:
    came: list[str] = []

    async def away(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"http://localhost:{request.url.port}/there"})

    async def there(request: web.Request) -> web.StreamResponse:
        came.append(request.host)
        return web.Response()

    async with serving(away=away, there=there) as port:
        response = await send(port, "/away", redirects=True)
    assert (response.error, came) == (ErrorKind.BLOCKED, [])


async def test_a_proxy_is_asked_for_what_stands_behind_it() -> None:
    async def proxy(caller: Caller) -> None:
        await caller.request()
        await caller.say(OK)

    async with Misbehaving(proxy) as server:
        response = await send(9, "/things", proxy=f"http://127.0.0.1:{server.port}")
        (asked,) = server.requests
    assert (response.status, response.body) == (200, b"{}")
    assert asked.startswith(b"GET http://127.0.0.1:9/things HTTP/1.1\r\n")


async def chat(request: web.Request) -> web.StreamResponse:
    """Says its traceparent, then what it was told, a piece at a time, then that it is done, then more."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    told = json.loads(await socket.receive_str())
    await socket.send_json({"trace": request.headers["traceparent"], "t": ""})
    for piece in told["say"]:
        await asyncio.sleep(0.05)
        await socket.send_json({"t": piece})
    await socket.send_json({"done": True})
    await socket.receive()
    return socket


async def test_a_websocket_is_opened_told_and_heard_until_its_message_comes() -> None:
    dialogue = Dialogue(until=lambda message: b"done" in message)
    async with serving(chat=chat) as port:
        endpoint: dict[str, object] = {"dialogue": dialogue, "tokens": TokenRule("chunks", "$.t")}
        response = await send(port, "/chat", b'{"say": ["a", "b", "c"]}', endpoint)
        first = await send(port, "/chat", b'{"say": []}', {"dialogue": Dialogue()})
    assert (response.error, response.status, response.body) == (ErrorKind.OK, 101, b'{"done": true}')
    assert response.tokens == 3
    assert 40_000 < response.ttft_us < 400_000
    assert 40_000 < response.gap_us < 300_000
    assert response.connect_us > 0
    assert response.ttfb_us < response.ttft_us
    assert json.loads(first.body)["trace"] == "00-1-2-01"


async def leave(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.close()
    return socket


async def be_silent(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.receive()
    return socket


async def refuse(_: web.Request) -> web.StreamResponse:
    return web.Response(status=401)


async def be_plain(_: web.Request) -> web.StreamResponse:
    return web.Response()


@pytest.mark.parametrize(
    ("handler", "error", "status"),
    [
        (leave, ErrorKind.RESET, 101),
        (be_silent, ErrorKind.TIMEOUT, 101),
        (refuse, ErrorKind.OK, 401),
        (be_plain, ErrorKind.PROTOCOL, 200),
    ],
)
async def test_a_websocket_that_fails_says_how(handler: Handler, error: ErrorKind, status: int) -> None:
    async with serving(socket=handler) as port:
        limits = Timeouts(total_s=0.3)
        response = await send(port, "/socket", endpoint={"dialogue": Dialogue(), "timeouts": limits})
    assert (response.error, response.status) == (error, status)


async def test_a_websocket_follows_no_redirect_to_elsewhere() -> None:
    async def away(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"http://localhost:{request.url.port}/chat"})

    async with serving(away=away, chat=chat) as port:
        response = await send(port, "/away", b"{}", {"dialogue": Dialogue()})
    assert response.error is ErrorKind.BLOCKED


async def test_how_long_a_websocket_takes_to_close_is_not_measured() -> None:
    async def linger(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoclose=False)
        await socket.prepare(request)
        await socket.send_str("{}")
        await asyncio.sleep(0.5)
        return socket

    began_us = monotonic_us()
    async with serving(linger=linger) as port:
        response = await send(port, "/linger", endpoint={"dialogue": Dialogue(), "timeouts": Timeouts(total_s=0.4)})
    assert response.error is ErrorKind.OK
    assert response.done_us - began_us < 300_000
