"""What a transport does: send one request, time it truly, and never raise for what the target did."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from shared.contracts.timing import ErrorKind

MAX_BODY_BYTES = 16 * 1024 * 1024
RETIRE_S, RETIRE_JITTER = 30.0, 0.25
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})


def retire_at_us(opened_us: int, draw: random.Random) -> int:
    """From when on (µs, as ``opened_us``) a connection is not used again: replicas that came later get load, too.

    Drawn for each, so that not all are opened anew at once.
    """
    return opened_us + int(RETIRE_S * draw.uniform(1 - RETIRE_JITTER, 1 + RETIRE_JITTER) * 1e6)


class Origin(NamedTuple):
    """Where connections go: one pool each. ``host`` is a name or address without brackets."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """As the ``Host`` header has it: IPv6 in brackets, the scheme's own port left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


@dataclass(frozen=True)
class Timeouts:
    """Limits of the phases, in seconds. ``total_s`` counts from sending, connecting included."""

    total_s: float = 30.0
    connect_s: float = 10.0
    first_byte_s: float | None = None

    @cached_property
    def soonest_us(self) -> int:
        """What is waited for at first, the first byte or all of it."""
        return int(min(self.total_s, self.first_byte_s or self.total_s) * 1e6)


@dataclass(frozen=True, slots=True)
class TokenRule:
    """How tokens are told in a streamed answer.

    ``sse``: each non-empty ``data:`` of server-sent events but ``[DONE]``; ``lines``: each non-empty line; ``chunks``:
    each non-empty piece as it arrives. ``path``: JSON path to the token's text within the data; an empty or absent
    text is no token (a role announcement, a usage report).
    """

    format: str = "sse"
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What is waited for on a WebSocket: so many messages, or the first for which ``until`` holds."""

    messages: int = 1
    until: Callable[[bytes], bool] | None = None

    def over(self, heard: int, last: bytes) -> bool:
        return heard >= self.messages if self.until is None else self.until(last)


@dataclass(frozen=True)
class Endpoint:
    """What all requests of a step have in common. ``dialogue``: they open a WebSocket, on which the body is said.

    ``headers``: those that are the same in each, free of line breaks. ``keep_body`` and ``keep_headers``: whether the
    caller needs them in the response (bytes are counted either way; a kept body is cut at ``MAX_BODY_BYTES``).
    """

    origin: Origin
    method: str
    headers: tuple[tuple[str, str], ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)
    tokens: TokenRule | None = None
    keep_body: bool = True
    keep_headers: bool = False
    dialogue: Dialogue | None = None

    @cached_property
    def head(self) -> str:
        """What follows the path on the wire, up to the headers that differ from request to request."""
        own_host = any(name.lower() == "host" for name, _ in self.headers)
        lines = [*([] if own_host else [("Host", self.origin.authority)]), *self.headers]
        return " HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines)

    @cached_property
    def safe_to_repeat(self) -> bool:
        """Whether sending it twice is as good as once (RFC 9110, 9.2.2)."""
        return self.method in _IDEMPOTENT


class Request(NamedTuple):
    """One request, ready to send.

    ``path``: origin form with its query, already percent-encoded. ``headers``: those that differ from request to
    request; a value with a line break makes the answer ``ErrorKind.BLOCKED`` and nothing is sent. ``body`` sets
    Content-Length. ``traceparent``: of W3C Trace Context, "" for none.
    """

    endpoint: Endpoint
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    traceparent: str = ""


class Response:
    """What came back. ``done_us`` is a reading of the monotonic clock; durations in µs count from sending.

    ``error`` is OK when an answer was received whole, whatever its status; after an error ``status`` is what had been
    received by then, else 0. ``bytes_in`` and ``bytes_out`` are those of bodies, after transfer decoding.
    ``connect_us`` is 0 when the connection was reused. ``retries``: times it was sent again because a kept connection
    turned out to be closed before any byte of an answer.
    """

    # Defaults of the class: one is made for each request, and most of these differ in few.
    error: ErrorKind = ErrorKind.OK
    status: int = 0
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    ttfb_us: int = 0
    connect_us: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    ttft_us: int = 0
    gap_us: int = 0
    tokens: int = 0
    retries: int = 0

    def __init__(self, done_us: int, error: ErrorKind = ErrorKind.OK, **more: Any) -> None:
        self.done_us = done_us
        if error is not ErrorKind.OK:
            self.error = error
        if more:
            self.__dict__.update(more)

    def __repr__(self) -> str:
        return f"Response({self.__dict__})"


class Transport(Protocol):
    """Raises nothing but ``asyncio.CancelledError``: every fault of the target is a ``Response`` with its kind.

    ``sent_us``: a reading of the monotonic clock just now, from which everything of the response counts.
    """

    async def send(self, request: Request, sent_us: int) -> Response: ...

    async def warm(self, endpoint: Endpoint) -> None:
        """Open a connection that a later request may take; where that fails, the request will tell."""

    async def close(self) -> None: ...
