"""Spans of one replica, exported by OTLP/HTTP. Requests that are not sampled, or come without a trace, cost nothing.

The OpenTelemetry SDK is loaded only when there is somewhere to export to.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol

from .trace_context import TraceContext

if TYPE_CHECKING:
    from opentelemetry.trace import Span as SdkSpan

Attribute = str | int | float | bool
Kind = Literal["internal", "server", "client"]

_log = logging.getLogger("platform.tracing")


class Span(Protocol):
    """A span, or the absence of one. `context` is what goes on to the work inside it."""

    context: TraceContext

    def set(self, attributes: Mapping[str, Attribute]) -> None: ...

    def fail(self, reason: str) -> None: ...

    def end(self) -> None: ...


class NoSpan:
    """Stands for a span that is not recorded: its context is the caller's, unchanged."""

    __slots__ = ("context",)

    def __init__(self, context: TraceContext) -> None:
        self.context = context

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Nothing is recorded."""

    def fail(self, reason: str) -> None:
        """Nothing is recorded."""

    def end(self) -> None:
        """Nothing is recorded."""


class Tracer(Protocol):
    def start(self, name: str, parent: TraceContext, kind: Kind = "internal", start_ns: int | None = None) -> Span:
        """Begin a span in `parent`'s trace, at `start_ns` (Unix nanoseconds) when given, otherwise now."""
        ...

    def shutdown(self, deadline_s: float) -> None:
        """Export what is left, for at most `deadline_s`."""
        ...


class NoTracer:
    """Passes trace context on and records nothing."""

    def start(self, name: str, parent: TraceContext, kind: Kind = "internal", start_ns: int | None = None) -> Span:
        return NoSpan(parent)

    def shutdown(self, deadline_s: float) -> None:
        """Nothing is left to export."""


class RecordedSpan:
    """A span of the SDK with the context its children continue."""

    __slots__ = ("_span", "context")

    def __init__(self, span: SdkSpan, parent: TraceContext) -> None:
        self._span = span
        self.context = replace(parent, span_id=f"{span.get_span_context().span_id:016x}")

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        self._span.set_attributes(attributes)

    def fail(self, reason: str) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_status(StatusCode.ERROR, reason)

    def end(self) -> None:
        self._span.end()


class OtlpTracer:
    """Records sampled spans and exports them in batches from a thread of its own."""

    def __init__(self, service: str, instance: str, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

        # An unreachable collector is the collector's matter: the SDK would log every failed batch.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        resource = Resource({"service.name": service, "service.instance.id": instance})
        self._provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=2.0)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=8192, schedule_delay_millis=500, max_export_batch_size=512)
        )
        self._tracer = self._provider.get_tracer("examples.platform")

    def start(self, name: str, parent: TraceContext, kind: Kind = "internal", start_ns: int | None = None) -> Span:
        if parent.trace_id is None or not parent.sampled:
            return NoSpan(parent)
        from opentelemetry import trace

        span_context = trace.SpanContext(
            int(parent.trace_id, 16),
            int(parent.span_id, 16),
            is_remote=kind == "server",
            trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
            trace_state=trace.TraceState.from_header([parent.tracestate] if parent.tracestate else []),
        )
        context = trace.set_span_in_context(trace.NonRecordingSpan(span_context))
        span = self._tracer.start_span(name, context=context, kind=trace.SpanKind[kind.upper()], start_time=start_ns)
        return RecordedSpan(span, parent)

    def shutdown(self, deadline_s: float) -> None:
        # The SDK waits up to 30 s for a collector that does not answer; a thread of ours lets the process go.
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        thread.join(deadline_s)
        if thread.is_alive():
            _log.warning("spans were left behind: the OTLP endpoint did not take them within %.1f s", deadline_s)


def make_tracer(service: str, instance: str, endpoint: str | None) -> Tracer:
    """A tracer that exports to `endpoint` (base URL), or one that only passes context on when there is none."""
    return OtlpTracer(service, instance, endpoint) if endpoint else NoTracer()
