"""Calls of one system to another, through that system's front door, with trace context and a service token."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from .auth import ServiceToken
from .trace_context import TraceContext
from .tracing import Tracer

_CALL_TIMEOUT_S = 60.0


class PeerError(Exception):
    """Another system did not answer as it should; the message names it and what it did."""


class Peers:
    """The other systems. The run's headers are not passed on: only what the load sends is counted."""

    def __init__(self, urls: Mapping[str, str], token: ServiceToken, tracer: Tracer) -> None:
        self._urls = dict(urls)
        self._token = token
        self._tracer = tracer
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=_CALL_TIMEOUT_S),
            auto_decompress=False,
        )

    async def close(self) -> None:
        await self._session.close()

    async def post(self, system: str, path: str, body: Mapping[str, Any], parent: TraceContext) -> dict[str, Any]:
        """POST `body` and return the JSON answer. PeerError when it fails or does not answer 200."""
        async with self.open(system, path, body, parent) as response:
            try:
                document = await response.json()
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise PeerError(f"{system} broke off its answer to POST {path}: {error!r}") from error
            return dict(document)

    @asynccontextmanager
    async def open(
        self, system: str, path: str, body: Mapping[str, Any], parent: TraceContext
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """POST `body` and hand over the answer as it comes. PeerError as in `post`."""
        span = self._tracer.start(f"POST {system} {path}", parent, "client")
        span.set({"http.request.method": "POST", "url.path": path, "peer.service": system})
        headers = span.context.headers() | {"Authorization": self._token.header(time.time())}
        try:
            response = await self._post(system, path, body, headers)
            try:
                span.set({"http.response.status_code": response.status})
                if response.status != 200:
                    raise PeerError(f"{system} answered POST {path} with {response.status}")
                yield response
            finally:
                response.release()
        except BaseException as error:
            span.fail(str(error) or type(error).__name__)
            raise
        finally:
            span.end()

    async def _post(
        self, system: str, path: str, body: Mapping[str, Any], headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        try:
            return await self._session.post(f"{self._urls[system]}{path}", json=body, headers=headers)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise PeerError(f"{system} did not answer POST {path}: {error!r}") from error
