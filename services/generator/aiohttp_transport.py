"""Transport over aiohttp's client, for scenarios that need redirects, cookies, decompression, a proxy or WebSockets."""

import asyncio
import random
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from services.generator.token_clock import TokenClock
from services.generator.transport import MAX_BODY_BYTES, Request, Response, retire_at_us
from shared.clock import monotonic_us
from shared.contracts.scenario import Client
from shared.contracts.timing import ErrorKind

_PIECE = 64 * 1024
_AUTOMATIC = ("Content-Type", "Accept", "Accept-Encoding")


def error_kind(error: BaseException) -> ErrorKind:
    """Closed kind of a client error; the order is from special to general."""
    kinds: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], ErrorKind], ...] = (
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

    async def begin(_: Any, context: SimpleNamespace, __: Any) -> None:
        context.trace_request_ctx["began_us"] = monotonic_us()

    async def end(_: Any, context: SimpleNamespace, __: Any) -> None:
        timing = context.trace_request_ctx
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
    """Implements ``Transport`` with the options of a scenario's ``client``.

    With ``cookies`` a jar is kept for all requests sent through it: each user then has a transport of its own.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
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
        )

    async def send(self, request: Request, sent_us: int) -> Response:
        timing: dict[str, int] = {}
        endpoint, path, headers, sent, traceparent = request
        if traceparent:
            headers = (("traceparent", traceparent), *headers)
        origin, limits = endpoint.origin, endpoint.timeouts
        response = Response(0, bytes_out=len(sent) if sent else 0)
        tokens = TokenClock(endpoint.tokens, sent_us) if endpoint.tokens is not None else None
        body: list[bytes] = []
        try:
            # A limit of our own: the client's does not count connecting and answering together.
            async with (
                asyncio.timeout(min(limits.total_s, limits.first_byte_s or limits.total_s)) as limit,
                self._session.request(
                    endpoint.method,
                    URL(f"{origin.scheme}://{origin.authority}{path}", encoded=True),
                    data=sent,
                    headers=[*endpoint.headers, *headers],
                    allow_redirects=self._client.redirects,
                    proxy=self._client.proxy,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s, sock_read=None),
                    trace_request_ctx=timing,
                ) as answer,
            ):
                response.status = answer.status
                response.ttfb_us = max(monotonic_us() - sent_us, 1)
                limit.reschedule(asyncio.get_running_loop().time() + limits.total_s - response.ttfb_us / 1e6)
                if endpoint.keep_headers:
                    response.headers = tuple(answer.headers.items())
                async for piece in answer.content.iter_chunked(_PIECE):
                    response.bytes_in += len(piece)
                    if tokens is not None:
                        tokens.feed(piece, monotonic_us())
                    if endpoint.keep_body and response.bytes_in <= MAX_BODY_BYTES:
                        body.append(piece)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            response.error = error_kind(error)
        response.done_us = monotonic_us()
        response.body = b"".join(body)
        response.connect_us = timing.get("connect_us", 0)
        if tokens is not None:
            tokens.end(response.done_us)
            response.ttft_us, response.gap_us, response.tokens = tokens.ttft_us, tokens.gap_us, tokens.tokens
        return response

    async def close(self) -> None:
        await self._session.close()
