"""One request through the front door and its answer: the caller's side, and what joins it to the replica's."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from .http1 import (
    HEAD_END,
    MAX_HEAD_BYTES,
    ChunkedBody,
    FramingError,
    RequestHead,
    ResponseHead,
    parse_request_head,
    parse_response_head,
)
from .instance import Instance
from .upstream import Upstream

if TYPE_CHECKING:
    from .front_door import FrontDoor

_MAX_BODY_BYTES = 4 * 1024 * 1024
_CONNECT_TIMEOUT_S = 2.0
_SAFE_TO_REPEAT = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_ATTEMPTS = 2


class Caller(asyncio.Protocol):
    """A caller's connection. Its requests are served one after the other."""

    def __init__(self, door: FrontDoor) -> None:
        self.door = door
        self.transport: asyncio.Transport
        self._received = b""
        self._exchange: Exchange | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a request of this caller is unanswered."""
        return self._exchange is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.door.callers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.callers.discard(self)
        if self._exchange is not None:
            self._exchange.abandon()
            self._exchange = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._exchange is None:
            self._serve_next()
        elif len(self._received) > _MAX_BODY_BYTES:
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.resume()

    def answered(self, closes: bool) -> None:
        """The exchange under way is over."""
        self._exchange = None
        if closes:
            self.transport.close()
            return
        self.transport.resume_reading()
        if self._received:
            self._serve_next()

    def refuse(self, status: int, message: str, closes: bool = False) -> None:
        """Answer in the door's own name."""
        body = json.dumps({"error": f"{self.door.service} {message}"}).encode()
        retry = "Retry-After: 1\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json; charset=utf-8\r\n"
            f"{retry}Content-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.answered(closes)

    def abort(self) -> None:
        """End the connection, whatever is under way."""
        self.transport.abort()

    def _serve_next(self) -> None:
        end = self._received.find(HEAD_END)
        if end < 0:
            if len(self._received) > MAX_HEAD_BYTES:
                self.refuse(431, "does not take so long a head", closes=True)
            return
        end += len(HEAD_END)
        try:
            head = parse_request_head(self._received[:end])
        except FramingError as error:
            self._received = b""
            self.refuse(error.status, f"refused the request: {error}", closes=True)
            return
        if head.content_length > _MAX_BODY_BYTES:
            self._received = b""
            self.refuse(413, f"takes {_MAX_BODY_BYTES} bytes at most", closes=True)
            return
        total = end + head.content_length
        if len(self._received) < total:
            return
        request = head.forwarded + self._received[end:total]
        self._received = self._received[total:]
        self._exchange = Exchange(self, head, request)
        self._exchange.attempt()


class Exchange:
    """A request on its way: the replicas tried, and how much of the answer has come."""

    def __init__(self, caller: Caller, head: RequestHead, request: bytes) -> None:
        self._caller = caller
        self._head = head
        self._request = request
        self._tried: list[Instance] = []
        self._upstream: Upstream | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._answer_head = b""
        self._answer: ResponseHead | None = None
        self._chunks: ChunkedBody | None = None
        self._left = 0

    def attempt(self) -> None:
        """Send the request to the best replica not tried yet, or refuse it when there is none."""
        instance = self._caller.door.choose(self._tried)
        if instance is None:
            status, what = (502, "could not be reached") if self._tried else (503, "has no ready replica")
            self._caller.refuse(status, what, self._head.closes)
            return
        self._tried.append(instance)
        instance.outstanding += 1
        upstream = self._caller.door.pool.take(instance)
        if upstream is not None:
            self._send(upstream)
        else:
            self._connecting = asyncio.create_task(self._connect(instance))

    def take(self, data: bytes) -> None:
        """Pass on what the replica sent."""
        try:
            if self._answer is None:
                self._answer_head += data
                data = self._take_head()
                if self._answer is None:
                    return
            else:
                self._caller.transport.write(data)
            if self._is_complete_after(data):
                self._finish()
        except FramingError as error:
            self._release(is_reusable=False)
            if self._answer is None:
                self._caller.refuse(502, str(error), closes=True)
            else:
                self._caller.abort()

    def lose(self) -> None:
        """The replica's connection ended before the answer was complete, unless its end is the answer's."""
        answer = self._answer
        self._release(is_reusable=False)
        if answer is not None and answer.content_length is None and not answer.is_chunked:
            self._caller.answered(closes=True)
        elif answer is not None:
            self._caller.abort()  # the status has gone out; a connection cut short is the only honest sign left
        elif not self._answer_head and self._head.method in _SAFE_TO_REPEAT and len(self._tried) < _ATTEMPTS:
            self.attempt()
        else:
            self._caller.refuse(502, "broke off its answer", self._head.closes)

    def abandon(self) -> None:
        """The caller is gone: end the replica's part too, so it does no work nobody waits for."""
        if self._connecting is not None:
            self._connecting.cancel()
        self._release(is_reusable=False)

    def pause(self) -> None:
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def resume(self) -> None:
        if self._upstream is not None:
            self._upstream.transport.resume_reading()

    async def _connect(self, instance: Instance) -> None:
        address = urlsplit(instance.url)
        pool = self._caller.door.pool
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                _, upstream = await asyncio.get_running_loop().create_connection(
                    lambda: Upstream(pool, instance), address.hostname or "", address.port or 0
                )
        except (OSError, TimeoutError):
            self._connecting = None
            instance.outstanding -= 1
            if len(self._tried) < _ATTEMPTS:
                self.attempt()
            else:
                self._caller.refuse(502, "could not be reached", self._head.closes)
            return
        except asyncio.CancelledError:
            instance.outstanding -= 1
            raise
        self._connecting = None
        self._send(upstream)

    def _send(self, upstream: Upstream) -> None:
        self._upstream = upstream
        upstream.exchange = self
        upstream.transport.write(self._request)

    def _take_head(self) -> bytes:
        """Pass on the head when it is whole; what of the body came with it."""
        while self._answer is None:
            end = self._answer_head.find(HEAD_END)
            if end < 0:
                if len(self._answer_head) > MAX_HEAD_BYTES:
                    raise FramingError(502, "answered with too long a head")
                return b""
            end += len(HEAD_END)
            answer = parse_response_head(self._answer_head[:end], self._head.method)
            if answer.status >= 200:
                self._answer = answer
            else:
                self._answer_head = self._answer_head[end:]  # interim answers concern the door alone
        self._caller.transport.write(self._answer_head)
        self._chunks = ChunkedBody() if self._answer.is_chunked else None
        self._left = self._answer.content_length or 0
        return self._answer_head[end:]

    def _is_complete_after(self, body: bytes) -> bool:
        if self._chunks is not None:
            self._chunks.feed(body)
            return self._chunks.is_done
        if self._answer is not None and self._answer.content_length is None:
            return False
        self._left -= len(body)
        return self._left <= 0

    def _finish(self) -> None:
        closes_upstream = self._answer is None or self._answer.closes
        self._release(is_reusable=not closes_upstream)
        self._caller.answered(self._head.closes or closes_upstream)

    def _release(self, is_reusable: bool) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is None:
            return
        upstream.exchange = None
        upstream.instance.outstanding -= 1
        if is_reusable:
            upstream.transport.resume_reading()
            self._caller.door.pool.give(upstream)
        else:
            upstream.transport.abort()
