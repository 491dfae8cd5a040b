"""W3C trace context as it comes in with a request and goes on with the calls it causes.

Grammar: https://www.w3.org/TR/trace-context/ (level 1). A header that does not follow it is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$")


@dataclass(frozen=True)
class TraceContext:
    """The trace a request belongs to; `trace_id` is None when the caller sent none."""

    trace_id: str | None = None
    span_id: str = ""
    flags: int = 0
    tracestate: str | None = None
    baggage: str | None = None

    @property
    def sampled(self) -> bool:
        return bool(self.flags & 1)

    def headers(self) -> dict[str, str]:
        """The headers that carry this context to the next system."""
        headers: dict[str, str] = {}
        if self.trace_id is not None:
            headers["traceparent"] = f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"
            if self.tracestate:
                headers["tracestate"] = self.tracestate
        if self.baggage:
            headers["baggage"] = self.baggage
        return headers


def read_trace_context(headers: Mapping[str, str]) -> TraceContext:
    """The context `headers` carry. A malformed `traceparent` counts as none, and its `tracestate` with it."""
    baggage = headers.get("baggage")
    match = _TRACEPARENT.match(headers.get("traceparent", ""))
    if match is None or not int(match[1], 16) or not int(match[2], 16):
        return TraceContext(baggage=baggage)
    return TraceContext(match[1], match[2], int(match[3], 16), headers.get("tracestate"), baggage)
