"""The front door of one service: a small HTTP reverse proxy to the ready replica with the least outstanding requests.

Bodies and headers pass untouched, answers as they come. A request is tried on another replica only when it
cannot have reached the first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from .balance import LeastOutstanding
from .instance import Instance

_log = logging.getLogger("platform.front_door")
_CONNECTION_HEADERS = (
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    "transfer-encoding upgrade expect"
)
_HOP_BY_HOP = frozenset(_CONNECTION_HEADERS.split())
_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS"))


class FrontDoor:
    """Listens on loopback for one service. `ready` gives the replicas that may be used at the moment."""

    def __init__(self, service: str, ready: Callable[[], Sequence[Instance]]) -> None:
        self._service = service
        self._ready = ready
        self._balance = LeastOutstanding()
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None, handler_cancellation=True, keepalive_timeout=75),
            shutdown_timeout=0.5,
        )
        self._session: aiohttp.ClientSession | None = None
        self.url = ""

    async def start(self, port: int) -> None:
        """Listen on `port`, or a free one when it is 0. OSError when it is taken."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=2.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, backlog=1024)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening; what is being answered gets half a second."""
        await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read() if request.body_exists else None
        headers = _end_to_end(request.headers)
        tried: list[Instance] = []
        while True:
            instance = self._balance.choose([one for one in self._ready() if one not in tried])
            if instance is None:
                return self._refuse(503 if not tried else 502)
            tried.append(instance)
            instance.outstanding += 1
            try:
                upstream = await self._send(request, instance, headers, body)
                return await _pass_on(request, upstream)
            except aiohttp.ClientConnectorError:
                if len(tried) > 1:
                    return self._refuse(502)
            except aiohttp.ServerDisconnectedError:
                if len(tried) > 1 or request.method not in _IDEMPOTENT:
                    return self._refuse(502)
            except (aiohttp.ClientError, TimeoutError) as error:
                _log.info("%s: %s did not answer %s: %r", self._service, instance.id, request.path, error)
                return self._refuse(502)
            finally:
                instance.outstanding -= 1

    async def _send(
        self, request: web.BaseRequest, instance: Instance, headers: CIMultiDict[str], body: bytes | None
    ) -> aiohttp.ClientResponse:
        assert self._session is not None  # noqa: S101 - made by start
        url = URL(instance.url + request.raw_path, encoded=True)
        return await self._session.request(request.method, url, headers=headers, data=body, allow_redirects=False)

    def _refuse(self, status: int) -> web.Response:
        what = "has no ready replica" if status == 503 else "broke off its answer or could not be reached"
        headers = {"Retry-After": "1"} if status == 503 else {}
        return web.json_response({"error": f"{self._service} {what}"}, status=status, headers=headers)


async def _pass_on(request: web.BaseRequest, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    """The upstream's answer: in one piece when its length is known, otherwise piece by piece as it comes."""
    async with upstream:
        headers = _end_to_end(upstream.headers)
        if upstream.content_length is not None or request.method == "HEAD":
            headers.popall("Content-Length", None)
            body = await upstream.read()
            return web.Response(status=upstream.status, headers=headers, body=body)
        response = web.StreamResponse(status=upstream.status, headers=headers)
        await response.prepare(request)
        try:
            async for chunk in upstream.content.iter_any():
                await response.write(chunk)
        except aiohttp.ClientError:
            # The status has gone out; a connection cut short is the only honest sign left.
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The headers without those that belong to one connection."""
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP)
