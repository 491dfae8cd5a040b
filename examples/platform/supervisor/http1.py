"""As much of HTTP/1.1 as a reverse proxy must understand to pass messages on as bytes: heads, and where bodies end.

Pure. Grammar: RFC 9112. A message that cannot be framed for certain is refused, never guessed at.
"""

from __future__ import annotations

from dataclasses import dataclass

HEAD_END = b"\r\n\r\n"
MAX_HEAD_BYTES = 64 * 1024
_BODILESS = frozenset((204, 304))


class FramingError(Exception):
    """The peer's fault; `status` is what a caller is to be answered."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's head. `forwarded` is the head to send on: the caller's without its `Connection` header."""

    method: bytes
    forwarded: bytes
    content_length: int
    closes: bool


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A response's head. The body's length is None when it is chunked or ends with the connection."""

    status: int
    content_length: int | None
    is_chunked: bool
    closes: bool


def parse_request_head(head: bytes) -> RequestHead:
    """The request whose head, its empty line included, is `head`. Chunked requests are refused with 411."""
    method, _, rest = head.partition(b" ")
    version = rest.partition(b"\r\n")[0].rpartition(b" ")[2]
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not method.isalpha():
        raise FramingError(400, "not an HTTP/1.1 request")
    lowered = head.lower()
    if b"\r\ntransfer-encoding:" in lowered:
        raise FramingError(411, "a request body needs a Content-Length")
    if b"\r\nexpect:" in lowered:
        raise FramingError(417, "Expect is not supported")
    closes = version == b"HTTP/1.0"
    forwarded = head
    start = lowered.find(b"\r\nconnection:")
    if start >= 0:
        end = lowered.index(b"\r\n", start + 2)
        closes = b"close" in lowered[start:end] or (closes and b"keep-alive" not in lowered[start:end])
        forwarded = head[:start] + head[end:]
    return RequestHead(method, forwarded, _content_length(lowered) or 0, closes)


def parse_response_head(head: bytes, method: bytes) -> ResponseHead:
    """The response to a `method` request whose head, its empty line included, is `head`."""
    try:
        status = int(head[9:12])
    except ValueError as error:
        raise FramingError(502, "the replica answered something other than HTTP") from error
    lowered = head.lower()
    connection = _field(lowered, b"connection") or b""
    closes = b"close" in connection or (head.startswith(b"HTTP/1.0") and b"keep-alive" not in connection)
    if method == b"HEAD" or status in _BODILESS or status < 200:
        return ResponseHead(status, 0, False, closes)
    is_chunked = b"chunked" in (_field(lowered, b"transfer-encoding") or b"")
    return ResponseHead(status, None if is_chunked else _content_length(lowered), is_chunked, closes)


class ChunkedBody:
    """Finds the end of a chunked body in bytes that come in any pieces."""

    def __init__(self) -> None:
        self.is_done = False
        self._line = b""
        self._skip = 0
        self._is_in_trailer = False

    def feed(self, data: bytes) -> None:
        """Take in the next bytes of the body. FramingError when they are no chunked body."""
        position = 0
        while position < len(data) and not self.is_done:
            if self._skip:
                step = min(self._skip, len(data) - position)
                self._skip -= step
                position += step
                continue
            end = data.find(b"\n", position)
            if end < 0:
                self._line += data[position:]
                return
            line = (self._line + data[position:end]).strip()
            self._line = b""
            position = end + 1
            self._take_line(line)

    def _take_line(self, line: bytes) -> None:
        if self._is_in_trailer:
            self.is_done = not line
            return
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError as error:
            raise FramingError(502, "a chunk without a size") from error
        self._is_in_trailer = size == 0
        self._skip = size + 2 if size else 0


def _field(lowered: bytes, name: bytes) -> bytes | None:
    start = lowered.find(b"\r\n" + name + b":")
    if start < 0:
        return None
    start += len(name) + 3
    return lowered[start : lowered.index(b"\r\n", start)].strip()


def _content_length(lowered: bytes) -> int | None:
    value = _field(lowered, b"content-length")
    if value is None:
        return None
    if not value.isdigit():
        raise FramingError(400, f"Content-Length: {value.decode(errors='replace')!r} is not a number")
    return int(value)
