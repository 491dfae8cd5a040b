"""Transport over aiohttp's client: keep-alive, no redirects, no cookies, bodies as they come."""

from types import SimpleNamespace
from typing import Any

import aiohttp

from services.generator.transport import Request, Response
from shared.clock import monotonic_us
from shared.contracts.timing import ErrorKind


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
        context.trace_request_ctx["connect_began_us"] = monotonic_us()

    async def end(_: Any, context: SimpleNamespace, __: Any) -> None:
        timing = context.trace_request_ctx
        timing["connect_us"] = monotonic_us() - timing["connect_began_us"]

    config.on_connection_create_start.append(begin)
    config.on_connection_create_end.append(end)
    return config


class AiohttpTransport:
    """One session for all users of a run on this worker; the number of connections follows the users."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trace_configs=[_trace_connections()],
        )

    async def send(self, request: Request) -> Response:
        timing: dict[str, int] = {}
        sent_us = monotonic_us()
        ttfb_us = 0
        size_out = len(request.body or b"")
        try:
            async with self._session.request(
                request.method,
                request.url,
                data=request.body,
                headers=request.headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=request.timeout_s),
                trace_request_ctx=timing,
            ) as answer:
                ttfb_us = monotonic_us() - sent_us
                if request.stream:
                    return await self._read_stream(answer, sent_us, ttfb_us, timing, size_out)
                body = await answer.read()
                return Response(
                    done_us=monotonic_us(),
                    status=answer.status,
                    body=body,
                    ttfb_us=ttfb_us,
                    connect_us=timing.get("connect_us", 0),
                    bytes_in=len(body),
                    bytes_out=size_out,
                )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Response(
                done_us=monotonic_us(),
                error=error_kind(error),
                ttfb_us=ttfb_us,
                connect_us=timing.get("connect_us", 0),
                bytes_out=size_out,
            )

    async def _read_stream(
        self, answer: aiohttp.ClientResponse, sent_us: int, ttfb_us: int, timing: dict[str, int], size_out: int
    ) -> Response:
        """Server-sent events: each non-empty ``data:`` line but ``[DONE]`` is a token."""
        body = bytearray()
        tokens = ttft_us = gap_us = 0
        last_us = 0
        async for line in answer.content:
            body += line
            data = line[5:].strip() if line.startswith(b"data:") else b""
            if not data or data == b"[DONE]":
                continue
            now_us = monotonic_us()
            if tokens:
                gap_us = max(gap_us, now_us - last_us)
            else:
                ttft_us = now_us - sent_us
            tokens, last_us = tokens + 1, now_us
        return Response(
            done_us=monotonic_us(),
            status=answer.status,
            body=bytes(body),
            ttfb_us=ttfb_us,
            connect_us=timing.get("connect_us", 0),
            bytes_in=len(body),
            bytes_out=size_out,
            ttft_us=ttft_us,
            gap_us=gap_us,
            tokens=tokens,
        )

    async def close(self) -> None:
        await self._session.close()
