"""Trace context of what a user does, and the spans of the traces that are recorded.

A trace covers one iteration of a scenario: a root span for the workflow, a child per request. Ids are drawn cheaply
for the many that are not recorded. A span that ends is handed to the SDK's batch processor, whose thread exports it;
the SDK's own tracer, made for spans that anything may change at any time, would cost a busy worker a tenth of its load.
"""

import random
import time
from collections.abc import Callable
from itertools import cycle

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from services.generator.trace_budget import TraceBudget
from shared.contracts.timing import ErrorKind
from shared.telemetry import traceparent

_draw = random.Random(random.SystemRandom().getrandbits(64)).getrandbits
# Ids of spans that nobody records must differ within their trace, no more: they are drawn once and taken in turn.
_endings = cycle([f"-{_draw(64) | 1:016x}-00" for _ in range(256)])
# One trace in so many is recorded beyond the budget.
BEYOND = 1000
_SCOPE = InstrumentationScope("tidegate.generator")
_SAMPLED, _OK, _ERROR = TraceFlags(TraceFlags.SAMPLED), Status(StatusCode.UNSET), Status(StatusCode.ERROR)


class Span:
    """A span of a recorded trace, from its start on."""

    __slots__ = ("_attributes", "_context", "_kind", "_name", "_parent", "_recorder", "_start_ns")

    def __init__(
        self,
        recorder: "Recorder",
        name: str,
        trace_id: int,
        parent: SpanContext | None,
        attributes: dict[str, str | int],
    ) -> None:
        self._recorder, self._name, self._parent, self._attributes = recorder, name, parent, attributes
        self._context = SpanContext(trace_id, _draw(64) | 1, is_remote=False, trace_flags=_SAMPLED)
        self._kind = SpanKind.INTERNAL if parent is None else SpanKind.CLIENT
        self._start_ns = time.time_ns()

    @property
    def context(self) -> SpanContext:
        return self._context

    def end(self, error: ErrorKind, status: int = 0) -> None:
        """``status``: of the HTTP answer, where there was one."""
        if status:
            self._attributes["http.response.status_code"] = status
        if error is not ErrorKind.OK:
            self._attributes["error.type"] = error.name.lower()
        self._recorder.keep(
            ReadableSpan(
                self._name,
                self._context,
                self._parent,
                self._recorder.resource,
                self._attributes,
                kind=self._kind,
                status=_OK if error is ErrorKind.OK else _ERROR,
                start_time=self._start_ns,
                end_time=time.time_ns(),
                instrumentation_scope=_SCOPE,
            )
        )


class _Worker(Resource):
    """The exporter looks a resource up for each span; its own hash is one of JSON made anew each time."""

    def __hash__(self) -> int:
        return id(self)


class Recorder:
    """Where spans go that have ended; nowhere without a processor. What the systems record does not depend on it."""

    def __init__(self, processor: SpanProcessor | None) -> None:
        self._processor = processor
        self.resource = _Worker({"service.name": "tidegate-generator"})

    def keep(self, span: ReadableSpan) -> None:
        if self._processor is not None:
            self._processor.on_end(span)


class Trail:
    """The trace of one iteration; ``root`` is None when it is not recorded. ``trace_id`` has 16 bytes."""

    __slots__ = ("_prefix", "root", "trace_id")

    def __init__(self, trace_id: bytes) -> None:
        self.trace_id = trace_id
        self.root: Span | None = None
        self._prefix = "00-" + trace_id.hex()

    def unrecorded(self, _ending: Callable[[], str] = _endings.__next__) -> str:
        """``traceparent`` of a request that is not recorded."""
        return self._prefix + _ending()


def _draw_trails() -> list[Trail]:
    """Many at once: code that runs once an iteration is never in the processor's caches."""
    ids = random.randbytes(16 * BEYOND)
    return [Trail(ids[at : at + 16]) for at in range(0, len(ids), 16)]


class Tracing:
    """Begins trails and request spans of one run on one worker."""

    def __init__(self, recorder: Recorder, run: str, budget: TraceBudget) -> None:
        self._recorder, self._run, self._budget = recorder, run, budget
        self._drawn = _draw_trails()

    def begin(self, name: str, user: int, now_us: int) -> Trail:
        trail = self._drawn.pop()
        if now_us >= self._budget.next_us or not self._drawn:
            # What is left of a batch is recorded whatever the budget says: a busy run keeps a thin even sample.
            if self._budget.take(now_us) or (not self._drawn and self._budget.per_second > 0):
                whose: dict[str, str | int] = {"tidegate.run": self._run, "tidegate.user": user}
                trail.root = Span(self._recorder, name, int.from_bytes(trail.trace_id, "big"), None, whose)
            if not self._drawn:
                self._drawn = _draw_trails()
        return trail

    def request(self, root: Span, name: str) -> tuple[str, Span]:
        """``traceparent`` for a request of a recorded trail, and its span."""
        span = Span(self._recorder, name, root.context.trace_id, root.context, {})
        return traceparent(span.context.trace_id, span.context.span_id, sampled=True), span
