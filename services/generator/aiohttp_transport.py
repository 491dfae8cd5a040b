"""Transport over aiohttp's client, for scenarios that need redirects, cookies, decompression, a proxy or WebSockets.

A redirect goes no further than the run's targets may: each request is held against the allow-list before it is sent.
"""

import asyncio
import random
from collections.abc import Collection
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from services.generator.token_clock import TokenClock
from services.generator.transport import MAX_BODY_BYTES, Dialogue, Endpoint, Request, Response, retire_at_us
from shared.clock import monotonic_us
from shared.contracts.client import Client
from shared.contracts.timing import ErrorKind

_PIECE = 64 * 1024
# How long the other side may take to agree that a WebSocket is closed.
_CLOSE_S = 1.0
# Of the request that this task sends; a WebSocket can be given no context of its own.
_timing: ContextVar[dict[str, int]] = ContextVar("timing")
_AUTOMATIC = ("Content-Type", "Accept", "Accept-Encoding")


class _NotAllowedError(aiohttp.ClientError):
    """A redirect leads to a host outside the allow-list."""


def error_kind(error: BaseException) -> ErrorKind:
    """Closed kind of a client error; the order is from special to general."""
    kinds: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], ErrorKind], ...] = (
        (_NotAllowedError, ErrorKind.BLOCKED),
        ((aiohttp.ConnectionTimeoutError,), ErrorKind.CONNECT_TIMEOUT),
        (TimeoutError, ErrorKind.TIMEOUT),
        (aiohttp.ClientConnectorDNSError, ErrorKind.DNS),
        ((aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch), ErrorKind.TLS),
        (aiohttp.ClientConnectorError, ErrorKind.CONNECT),
        ((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError), ErrorKind.RESET),
        (aiohttp.ClientPayloadError, ErrorKind.RESET),
    )
    for types, kind in kinds:
        if isinstance(error, types):
            return kind
    return ErrorKind.PROTOCOL


def _trace_connections() -> aiohttp.TraceConfig:
    config = aiohttp.TraceConfig()

    async def begin(*_: Any) -> None:
        _timing.get()["began_us"] = monotonic_us()

    async def end(*_: Any) -> None:
        timing = _timing.get()
        timing["connect_us"] = max(monotonic_us() - timing["began_us"], 1)

    config.on_connection_create_start.append(begin)
    config.on_connection_create_end.append(end)
    return config


class RetiringConnector(aiohttp.TCPConnector):
    """Closes kept connections past their age instead of using them again; the client itself only knows idle ones."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._random = random.Random()
        self._retire_us: WeakKeyDictionary[ResponseHandler, int] = WeakKeyDictionary()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            handler, now_us = connection.protocol, monotonic_us()
            if handler is None:
                return connection
            if handler not in self._retire_us:
                self._retire_us[handler] = retire_at_us(now_us, self._random)
                return connection
            if now_us < self._retire_us[handler]:
                return connection
            connection.close()


class AiohttpTransport:
    """Implements ``Transport`` with the options of a scenario's ``client``, to ``allowed_hosts`` alone.

    With ``cookies`` a jar is kept for all requests sent through it: each user then has a transport of its own.
    """

    def __init__(self, client: Client, allowed_hosts: Collection[str]) -> None:
        self._client, self._allowed_hosts = client, allowed_hosts
        self._closing: set[asyncio.Future[bool]] = set()
        self._session = aiohttp.ClientSession(
            connector=RetiringConnector(
                limit=0,
                limit_per_host=client.connections or 0,
                ttl_dns_cache=60,
                keepalive_timeout=30,
                ssl=client.verify_tls,
            ),
            cookie_jar=aiohttp.CookieJar(unsafe=True) if client.cookies else aiohttp.DummyCookieJar(),
            auto_decompress=client.decompress,
            skip_auto_headers=("Content-Type", "Accept") if client.decompress else _AUTOMATIC,
            trace_configs=[_trace_connections()],
            middlewares=(self._guard,),
        )

    async def _guard(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Every request passes here, those that follow a redirect too."""
        if request.url.host not in self._allowed_hosts:
            raise _NotAllowedError(f"{request.url.host!r} is not in the allow-list")
        return await handler(request)

    async def send(self, request: Request, sent_us: int) -> Response:
        endpoint = request.endpoint
        limits, rule = endpoint.timeouts, endpoint.tokens
        timing: dict[str, int] = {}
        _timing.set(timing)
        response = Response(0, bytes_out=len(request.body) if request.body else 0)
        tokens = TokenClock(rule, sent_us) if rule is not None else None
        body: list[bytes] = []
        carry = self._exchange if endpoint.dialogue is None else self._converse
        try:
            # A limit of our own: the client's does not count connecting and answering together.
            async with asyncio.timeout(min(limits.total_s, limits.first_byte_s or limits.total_s)) as limit:
                await carry(request, sent_us, response, body, tokens, limit)
        except aiohttp.WSServerHandshakeError as refused:
            # A wrong status is told by the step's judge; a good one is no opened socket.
            response.status = refused.status
            response.error = ErrorKind.OK if refused.status >= 400 else ErrorKind.PROTOCOL
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            response.error = error_kind(error)
        response.done_us = monotonic_us()
        response.body = b"".join(body)
        response.connect_us = timing.get("connect_us", 0)
        if tokens is not None:
            tokens.end(response.done_us)
            response.ttft_us, response.gap_us, response.tokens = tokens.ttft_us, tokens.gap_us, tokens.tokens
        return response

    async def _exchange(
        self, request: Request, sent_us: int, response: Response, body: list[bytes], tokens: TokenClock | None,
        limit: asyncio.Timeout,
    ) -> None:  # fmt: skip
        """One request and its answer."""
        endpoint = request.endpoint
        async with self._session.request(
            endpoint.method,
            _url(request),
            data=request.body,
            headers=_headers(request),
            allow_redirects=self._client.redirects,
            proxy=self._client.proxy,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=endpoint.timeouts.connect_s, sock_read=None),
        ) as answer:
            response.status = answer.status
            _begun(response, sent_us, endpoint.timeouts.total_s, limit)
            if endpoint.keep_headers:
                response.headers = tuple(answer.headers.items())
            async for piece in answer.content.iter_chunked(_PIECE):
                response.bytes_in += len(piece)
                if tokens is not None:
                    tokens.feed(piece, monotonic_us())
                if endpoint.keep_body and response.bytes_in <= MAX_BODY_BYTES:
                    body.append(piece)

    async def _converse(
        self, request: Request, sent_us: int, response: Response, body: list[bytes], tokens: TokenClock | None,
        limit: asyncio.Timeout,
    ) -> None:  # fmt: skip
        """Open a WebSocket, say what the request has to say, hear what the dialogue waits for; close it."""
        endpoint = request.endpoint
        assert endpoint.dialogue is not None  # noqa: S101 - asked for by whoever calls
        socket = await self._session.ws_connect(
            _url(request),
            headers=_headers(request),
            proxy=self._client.proxy,
            timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
            max_msg_size=MAX_BODY_BYTES,
        )
        try:
            response.status = 101
            if request.body is not None:
                await socket.send_str(request.body.decode())
            await _hear(socket, endpoint.dialogue, sent_us, response, body, tokens, limit, endpoint.timeouts.total_s)
        finally:
            # Nobody waits for the other side's word: what was asked for has come, or will not.
            closing = asyncio.ensure_future(socket.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def warm(self, endpoint: Endpoint) -> None:
        """Nothing: aiohttp opens connections for requests alone."""

    async def close(self) -> None:
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._session.close()


async def _hear(
    socket: aiohttp.ClientWebSocketResponse, dialogue: Dialogue, sent_us: int, response: Response, body: list[bytes],
    tokens: TokenClock | None, limit: asyncio.Timeout, total_s: float,
) -> None:  # fmt: skip
    """Messages until the dialogue has what it waits for; ``body`` is the last one."""
    heard = 0
    while True:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            data = message.data.encode()
        elif message.type is aiohttp.WSMsgType.BINARY:
            data = message.data
        else:
            failed = message.type is aiohttp.WSMsgType.ERROR
            response.error = ErrorKind.PROTOCOL if failed else ErrorKind.RESET
            return
        if not heard:
            _begun(response, sent_us, total_s, limit)
        heard += 1
        response.bytes_in += len(data)
        if tokens is not None:
            tokens.feed(data, monotonic_us())
        body[:] = [data]
        if dialogue.over(heard, data):
            return


def _begun(response: Response, sent_us: int, total_s: float, limit: asyncio.Timeout) -> None:
    """The answer begins: from here on the limit of the whole counts."""
    response.ttfb_us = max(monotonic_us() - sent_us, 1)
    limit.reschedule(asyncio.get_running_loop().time() + total_s - response.ttfb_us / 1e6)


def _url(request: Request) -> URL:
    origin = request.endpoint.origin
    return URL(f"{origin.scheme}://{origin.authority}{request.path}", encoded=True)


def _headers(request: Request) -> list[tuple[str, str]]:
    trace = [("traceparent", request.traceparent)] if request.traceparent else []
    return [*trace, *request.endpoint.headers, *request.headers]
