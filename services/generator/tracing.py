"""Trace context of what a user does, and the spans of the traces that are recorded.

A trace covers one iteration of a scenario: a root span for the workflow, a child per request. Ids are drawn cheaply
for the many that are not recorded; recorded ones go through the SDK, whose export runs in a thread of its own.
"""

import random

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from services.generator.trace_budget import TraceBudget
from shared.contracts.timing import ErrorKind
from shared.telemetry import traceparent

_draw = random.Random(random.SystemRandom().getrandbits(64)).getrandbits


class Trail:
    """The trace of one iteration; ``root`` is None when it is not recorded. ``trace_id`` has 16 bytes."""

    __slots__ = ("_prefix", "root", "trace_id")

    def __init__(self, trace_id: int, root: Span | None) -> None:
        self.trace_id = trace_id.to_bytes(16, "big")
        self.root = root
        self._prefix = "00-" + self.trace_id.hex()

    def unrecorded(self) -> str:
        """``traceparent`` of a request that is not recorded."""
        return f"{self._prefix}-{_draw(64) | 1:016x}-00"


class Tracing:
    """Begins trails and request spans of one run on one worker."""

    def __init__(self, tracer: Tracer, run: str, budget: TraceBudget) -> None:
        self._tracer, self._run, self._budget = tracer, run, budget

    def begin(self, name: str, user: int, now_us: int) -> Trail:
        if not self._budget.take(now_us):
            return Trail(_draw(128) | 1, None)
        root = self._tracer.start_span(
            name, context=trace.set_span_in_context(trace.INVALID_SPAN), attributes=self._attributes(user)
        )
        return Trail(root.get_span_context().trace_id, root)

    def request(self, root: Span, name: str, user: int) -> tuple[str, Span]:
        """``traceparent`` for a request of a recorded trail, and its span."""
        span = self._tracer.start_span(
            name, context=trace.set_span_in_context(root), kind=SpanKind.CLIENT, attributes=self._attributes(user)
        )
        context = span.get_span_context()
        return traceparent(context.trace_id, context.span_id, sampled=True), span

    def _attributes(self, user: int) -> dict[str, str | int]:
        return {"tidegate.run": self._run, "tidegate.user": user}


def end(span: Span | None, error: ErrorKind, status: int = 0) -> None:
    """End a span with its outcome; without effect where none was recorded."""
    if span is None:
        return
    if status:
        span.set_attribute("http.response.status_code", status)
    if error is not ErrorKind.OK:
        span.set_attribute("error.type", error.name.lower())
        span.set_status(Status(StatusCode.ERROR))
    span.end()
