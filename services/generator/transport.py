"""What a transport does: send one request, time it truly, and never raise for what the target did."""

from dataclasses import dataclass
from typing import Protocol

from shared.contracts.timing import ErrorKind


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. ``timeout_s`` bounds it from sending to the last byte of the answer."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None = None
    timeout_s: float = 30.0
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """What came back. ``done_us`` is a reading of the monotonic clock; durations in µs count from sending.

    ``error`` is OK when an answer was received whole, whatever its status.
    """

    done_us: int
    error: ErrorKind = ErrorKind.OK
    status: int = 0
    body: bytes = b""
    ttfb_us: int = 0
    connect_us: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    ttft_us: int = 0
    gap_us: int = 0
    tokens: int = 0


class Transport(Protocol):
    """Raises nothing but ``asyncio.CancelledError``: every fault of the target is a ``Response`` with its kind."""

    async def send(self, request: Request) -> Response: ...

    async def close(self) -> None: ...
