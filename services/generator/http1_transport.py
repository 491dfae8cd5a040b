"""The fast transport: HTTP/1.1 over kept connections, one request at a time on each, exactly as the scenario says.

No redirects, cookies, compression or proxies: what needs these takes ``aiohttp_transport``. Connections are retired
by age so that replicas that came later get their share of the load.
"""

import asyncio
import ipaddress
import random
import re
import socket
import ssl
from collections import deque

from services.generator.http1_connection import Http1Connection, Outbox
from services.generator.transport import Endpoint, Origin, Request, Response, retire_at_us
from shared.clock import monotonic_us
from shared.contracts.timing import ErrorKind

DNS_S = 60.0
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class _Pool:
    """Connections to one origin: the one used last is taken first, so that few stay warm."""

    __slots__ = ("idle", "open", "waiting")

    def __init__(self) -> None:
        self.idle: list[Http1Connection] = []
        self.open = 0
        self.waiting: deque[asyncio.Future[None]] = deque()

    def take(self, now_us: int) -> Http1Connection | None:
        while self.idle:
            connection = self.idle.pop()
            if connection.idle and now_us < connection.retire_us:
                return connection
            connection.abort()
        return None

    def wake(self) -> None:
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class _ConnectError(Exception):
    def __init__(self, kind: ErrorKind) -> None:
        self.kind = kind


class Http1Transport:
    """Implements ``Transport``. ``connections``: most to one origin at once (None: as many as are asked for)."""

    def __init__(self, *, connections: int | None = None, verify_tls: bool = True) -> None:
        self._limit, self._verify = connections, verify_tls
        self._pools: dict[Origin, _Pool] = {}
        self._all: set[Http1Connection] = set()
        self._names: dict[tuple[str, int], tuple[int, list[str]]] = {}
        self._tls: ssl.SSLContext | None = None
        self._random = random.Random()
        self._closed: asyncio.Future[None] | None = None
        self._outbox = Outbox(asyncio.get_running_loop())

    async def send(self, request: Request, sent_us: int) -> Response:
        endpoint = request.endpoint
        pool = self._pool(endpoint)
        data = _on_the_wire(request)
        if data is None:
            return Response(monotonic_us(), ErrorKind.BLOCKED)
        retries = connect_us = 0
        while True:
            connection = pool.take(sent_us)
            kept = connection is not None
            if connection is None:
                began_us = monotonic_us()
                try:
                    connection = await self._another(pool, endpoint, sent_us)
                except _ConnectError as failed:
                    now_us = monotonic_us()
                    return Response(now_us, failed.kind, connect_us=max(now_us - began_us, 1), retries=retries)
                connect_us = max(monotonic_us() - began_us, 1) if not connection.exchanges else 0
            kept = kept or connection.exchanges > 0
            try:
                response = await connection.exchange(endpoint, data, sent_us)
            except asyncio.CancelledError:
                connection.abort()
                raise
            if connection.idle:
                pool.idle.append(connection)
                if pool.waiting:
                    pool.wake()
            elif (
                response.error is ErrorKind.RESET
                and kept
                and not retries
                and not response.ttfb_us
                and endpoint.safe_to_repeat
            ):
                retries = 1
                continue
            if request.body:
                response.bytes_out = len(request.body)
            if connect_us or retries:
                response.connect_us, response.retries = connect_us, retries
            return response

    async def warm(self, endpoint: Endpoint) -> None:
        pool = self._pool(endpoint)
        if self._limit is not None and pool.open >= self._limit:
            return
        try:
            connection = await self._open(pool, endpoint, endpoint.timeouts.connect_s)
        except _ConnectError:
            return
        connection.idle = True
        pool.idle.append(connection)
        pool.wake()

    async def close(self) -> None:
        self._closed = asyncio.get_running_loop().create_future()
        for connection in list(self._all):
            connection.abort()
        if self._all:
            await self._closed

    def _pool(self, endpoint: Endpoint) -> _Pool:
        pool = self._pools.get(endpoint.origin)
        if pool is None:
            pool = self._pools[endpoint.origin] = _Pool()
        return pool

    async def _another(self, pool: _Pool, endpoint: Endpoint, sent_us: int) -> Http1Connection:
        """A new connection, or one that came free while the limit did not allow a new one."""
        remaining_s = endpoint.timeouts.total_s - (monotonic_us() - sent_us) / 1e6
        deadline = asyncio.get_running_loop().time() + max(remaining_s, 0.0)
        while self._limit is not None and pool.open >= self._limit:
            waiter = asyncio.get_running_loop().create_future()
            pool.waiting.append(waiter)
            try:
                async with asyncio.timeout_at(deadline):
                    await waiter
            except TimeoutError:
                raise _ConnectError(ErrorKind.CONNECT_TIMEOUT) from None
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    pool.wake()
                raise
            connection = pool.take(monotonic_us())
            if connection is not None:
                return connection
        return await self._open(pool, endpoint, min(endpoint.timeouts.connect_s, max(remaining_s, 0.0)))

    async def _open(self, pool: _Pool, endpoint: Endpoint, within_s: float) -> Http1Connection:
        pool.open += 1
        try:
            async with asyncio.timeout(within_s):
                return await self._connect(pool, endpoint.origin)
        except BaseException as error:
            pool.open -= 1
            pool.wake()
            if isinstance(error, TimeoutError):
                raise _ConnectError(ErrorKind.CONNECT_TIMEOUT) from error
            raise

    async def _connect(self, pool: _Pool, origin: Origin) -> Http1Connection:
        loop = asyncio.get_running_loop()
        opened = False

        def gone(connection: Http1Connection) -> None:
            self._all.discard(connection)
            if not self._all and self._closed is not None and not self._closed.done():
                self._closed.set_result(None)
            if opened:
                pool.open -= 1
                pool.wake()
                if connection in pool.idle:
                    pool.idle.remove(connection)

        addresses = await self._addresses(origin)
        tls = self._context() if origin.scheme == "https" else None
        for position, address in enumerate(addresses):
            connection = Http1Connection(loop, self._outbox, gone)
            try:
                await loop.create_connection(
                    lambda connection=connection: connection,
                    address,
                    origin.port,
                    ssl=tls,
                    server_hostname=origin.host if tls else None,
                )
            except ssl.SSLError as error:
                raise _ConnectError(ErrorKind.TLS) from error
            except (OSError, ConnectionError) as error:
                if position < len(addresses) - 1:
                    continue
                kind = ErrorKind.TLS if tls and isinstance(error, ConnectionResetError) else ErrorKind.CONNECT
                raise _ConnectError(kind) from error
            opened = True
            self._all.add(connection)
            connection.retire_us = retire_at_us(monotonic_us(), self._random)
            return connection
        raise _ConnectError(ErrorKind.DNS)

    async def _addresses(self, origin: Origin) -> list[str]:
        """Addresses of a host, looked up once a minute and taken in turn."""
        try:
            return [str(ipaddress.ip_address(origin.host))]
        except ValueError:
            pass
        key = (origin.host, origin.port)
        until_us, addresses = self._names.get(key, (0, []))
        if monotonic_us() >= until_us:
            try:
                addresses = await look_up(origin.host, origin.port)
            except (OSError, UnicodeError) as error:
                raise _ConnectError(ErrorKind.DNS) from error
            self._names[key] = (monotonic_us() + int(DNS_S * 1e6), addresses)
        if len(addresses) > 1:
            addresses.append(addresses.pop(0))
        return list(addresses)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            if not self._verify:
                self._tls.check_hostname = False
                self._tls.verify_mode = ssl.CERT_NONE
        return self._tls


async def look_up(host: str, port: int) -> list[str]:
    """Addresses of a name, each once; ``OSError`` or ``UnicodeError`` when there is none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _on_the_wire(request: Request) -> bytes | None:
    """The request's bytes, or None when a path or header would break out of its line."""
    endpoint, path, headers, body, traceparent = request
    if not (path.isascii() and path.isprintable()) or " " in path:
        return None
    varying = ""
    for name, value in headers:
        if not value.isprintable() and _BAD_VALUE.search(value):
            return None
        varying += f"{name}: {value}\r\n"
    if body is not None:
        varying += f"Content-Length: {len(body)}\r\n"
    elif endpoint.method in _WITH_BODY:
        varying += "Content-Length: 0\r\n"
    try:
        if traceparent:
            raw = f"{endpoint.method} {path}{endpoint.head}{varying}traceparent: {traceparent}\r\n\r\n".encode(
                "latin-1"
            )
        else:
            raw = f"{endpoint.method} {path}{endpoint.head}{varying}\r\n".encode("latin-1")
    except UnicodeEncodeError:
        return None
    return raw + body if body else raw
