"""One HTTP/1.1 connection: an exchange at a time, parsed by llhttp (httptools), timed where the bytes arrive."""

import asyncio
import re
import ssl
from collections.abc import Callable

import httptools

from services.generator.token_clock import TokenClock
from services.generator.transport import MAX_BODY_BYTES, Endpoint, Response
from shared.clock import monotonic_us
from shared.contracts.timing import ErrorKind

MAX_HEAD_BYTES = 64 * 1024
_LENGTH = re.compile(rb"\r?\n(?:content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)


class Outbox:
    """Writes what connections have to send together, once the tasks of this turn of the loop have run.

    A target that sleeps is woken by each write that finds it so, at the sender's cost: a fifth of all CPU when every
    request was written by itself. Its delay is that of the turn, which loop lag shows.
    """

    __slots__ = ("_call_soon", "_letters")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._letters: list[tuple[asyncio.Transport, bytes]] = []

    def put(self, transport: asyncio.Transport, data: bytes) -> None:
        if not self._letters:
            self._call_soon(self._post)
        self._letters.append((transport, data))

    def _post(self) -> None:
        letters, self._letters = self._letters, []
        for transport, data in letters:
            transport.write(data)


class Http1Connection(asyncio.Protocol):
    """Belongs to one pool. ``exchange`` may be called while ``idle``; ``on_gone`` is called once when it has closed.

    ``idle``: open, with nothing outstanding, and the answer before left it in order. ``retire_us``: from when on it is
    not used again. ``exchanges``: how many have begun on it.
    """

    __slots__ = (
        "_body", "_complete", "_done", "_endpoint", "_head", "_head_bytes", "_loop", "_now_us", "_on_gone", "_outbox",
        "_parser", "_reading_body", "_response", "_sent_us", "_spoiled", "_timer", "_timer_us", "_tokens",
        "_transport", "exchanges", "idle", "retire_us",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, outbox: Outbox, on_gone: "Callable[[Http1Connection], None]"
    ) -> None:
        self._loop, self._outbox, self._on_gone = loop, outbox, on_gone
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[Response] | None = None
        self._endpoint: Endpoint
        self._response = Response(0)
        self._head: list[bytes] = []
        self._body: list[bytes] = []
        self._tokens: TokenClock | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sent_us = self._now_us = self._timer_us = self._head_bytes = 0
        self._reading_body = self._spoiled = False
        self._complete = True
        self.exchanges = 0
        self.retire_us = 0
        self.idle = False

    def exchange(self, endpoint: Endpoint, data: bytes, sent_us: int) -> "asyncio.Future[Response]":
        """Send a request in one piece; the future gets its answer or its failure. Timeouts count from ``sent_us``."""
        if self._transport is None:
            raise ValueError("the connection is closed")
        self.exchanges += 1
        self.idle = False
        self._endpoint, self._sent_us = endpoint, sent_us
        self._response = Response(0)
        self._head_bytes = 0
        self._reading_body = self._complete = False
        if self._head:
            self._head = []
        if self._body:
            self._body = []
        self._tokens = TokenClock(endpoint.tokens, sent_us) if endpoint.tokens is not None else None
        deadline_us = sent_us + endpoint.timeouts.soonest_us
        if self._timer is None or deadline_us < self._timer_us:
            self._arm(deadline_us)
        self._done = done = self._loop.create_future()
        self._outbox.put(self._transport, data)
        return done

    def abort(self) -> None:
        """Close at once; an exchange under way never gets its answer."""
        self._done = None
        self._close()

    def _close(self) -> None:
        self._spoiled = True
        self.idle = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    # Timeouts: one timer, armed again only when it fires, since most answers come long before.

    def _arm(self, deadline_us: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_us = deadline_us
        self._timer = self._loop.call_later(max(0.0, (deadline_us - monotonic_us()) / 1e6) + 0.001, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self._done is None:
            return
        timeouts = self._endpoint.timeouts
        now_us, deadline_us = monotonic_us(), self._sent_us + int(timeouts.total_s * 1e6)
        if timeouts.first_byte_s is not None and not self._response.ttfb_us:
            deadline_us = min(deadline_us, self._sent_us + int(timeouts.first_byte_s * 1e6))
        if now_us >= deadline_us:
            self._fail(ErrorKind.TIMEOUT)
        else:
            self._arm(deadline_us)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.idle = True

    def data_received(self, data: bytes) -> None:
        if self._done is None:
            # Nobody asked: what follows could be taken for the answer to the next request.
            self._close()
            return
        self._now_us = now_us = monotonic_us()
        response = self._response
        if not response.ttfb_us:
            response.ttfb_us = now_us - self._sent_us or 1
        if not self._reading_body:
            self._head.append(data)
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._spoiled = True
            if not self._complete:
                self._fail(ErrorKind.PROTOCOL)
                return
        if self._complete:
            self._finish()
        elif not self._reading_body and self._head_bytes > MAX_HEAD_BYTES:
            self._fail(ErrorKind.PROTOCOL)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._spoiled = True
        self.idle = False
        if self._done is not None:
            if (
                error is None
                and self._reading_body
                and not _LENGTH.search(b"".join(self._head).partition(b"\r\n\r\n")[0])
            ):
                # Neither a length nor chunks: the end of the connection is the end of the body (RFC 9112, 6.3).
                self._now_us = monotonic_us()
                self.on_message_complete()
                self._finish()
            else:
                self._fail(ErrorKind.TLS if isinstance(error, ssl.SSLError) else ErrorKind.RESET)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._on_gone(self)

    # httptools

    def on_message_begin(self) -> None:
        if self._complete:
            self._spoiled = True

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        self._response.status = status
        if status >= 200:
            self._reading_body = True
            if self._endpoint.method == "HEAD":
                # The parser cannot know that no body follows; a new one begins with the next answer.
                self._spoiled = self._spoiled or not self._parser.should_keep_alive()
                self._parser = httptools.HttpResponseParser(self)
                self.on_message_complete()

    def on_body(self, data: bytes) -> None:
        if self._complete:
            return
        response = self._response
        response.bytes_in += len(data)
        if self._tokens is not None:
            self._tokens.feed(data, self._now_us)
        if self._endpoint.keep_body and response.bytes_in <= MAX_BODY_BYTES:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self._response.status < 200 or self._complete:
            # An interim answer (RFC 9110, 15.2): the one that counts follows.
            return
        self._complete = True
        self._response.done_us = self._now_us
        if not self._parser.should_keep_alive() and self._endpoint.method != "HEAD":
            self._spoiled = True

    def _finish(self) -> None:
        response, done = self._response, self._done
        if self._body:
            response.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        if self._endpoint.keep_headers:
            response.headers = _headers(b"".join(self._head))
        if self._tokens is not None:
            self._settle_tokens(response.done_us)
        self._done = None
        if self._spoiled:
            self._close()
        else:
            self.idle = True
        if done is not None and not done.done():
            done.set_result(response)

    def _fail(self, kind: ErrorKind) -> None:
        response, done = self._response, self._done
        response.done_us, response.error = monotonic_us(), kind
        self._settle_tokens(response.done_us)
        self._done = None
        self._close()
        if done is not None and not done.done():
            done.set_result(response)

    def _settle_tokens(self, now_us: int) -> None:
        tokens = self._tokens
        if tokens is not None:
            tokens.end(now_us)
            response = self._response
            response.ttft_us, response.gap_us, response.tokens = tokens.ttft_us, tokens.gap_us, tokens.tokens
            self._tokens = None


def _headers(head: bytes) -> tuple[tuple[str, str], ...]:
    """Header lines of the last message whose head begins in these bytes; interim answers before it are left out."""
    text = head.decode("latin-1")
    block = text.partition("\r\n\r\n")[0]
    while block[9:10] == "1":
        text = text.partition("\r\n\r\n")[2]
        block = text.partition("\r\n\r\n")[0]
    pairs = (line.partition(":") for line in block.split("\r\n")[1:])
    return tuple((name.strip(), value.strip()) for name, colon, value in pairs if colon)
