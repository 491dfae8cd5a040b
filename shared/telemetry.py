"""Logs, traces and their context: set up once per process, the same in every service."""

import logging
import re
import sys
from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

_TRACEPARENT = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$")


def configure_logging(service: str, level: str = "INFO") -> None:
    """One line per record on standard error: time, level, service, logger, message."""
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format=f"%(asctime)s.%(msecs)03d %(levelname)s {service} %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        force=True,
    )
    # An exporter that cannot reach its collector would otherwise write a traceback for each batch.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    logging.getLogger("nats").setLevel(logging.ERROR)


def configure_tracing(service: str, endpoint: str | None) -> TracerProvider:
    """A tracer provider that exports to ``<endpoint>/v1/traces``, or records nothing where none is given.

    Sampling follows the parent, and a root is not recorded.
    """
    provider = TracerProvider(
        resource=Resource.create({"service.name": service}), sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False
    )
    if endpoint:
        provider.add_span_processor(batch_processor(endpoint))
    return provider


def batch_processor(endpoint: str) -> SpanProcessor:
    """Exports to ``<endpoint>/v1/traces`` in a background thread with a bounded queue: spans are dropped rather than
    anything slowed.
    """
    # Loaded where spans are sent somewhere: it costs each process some megabytes.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
    return BatchSpanProcessor(exporter, schedule_delay_millis=1000, max_queue_size=8192, max_export_batch_size=512)


def traceparent(trace_id: int, span_id: int, *, sampled: bool) -> str:
    """W3C Trace Context header value of these ids."""
    return f"00-{trace_id:032x}-{span_id:016x}-{'01' if sampled else '00'}"


def context_of(headers: Mapping[str, str] | None) -> trace.SpanContext | None:
    """Remote span context of a ``traceparent`` header; None where it is absent or malformed."""
    match = _TRACEPARENT.match((headers or {}).get("traceparent", ""))
    if not match or int(match[1], 16) == 0 or int(match[2], 16) == 0:
        return None
    return SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=TraceFlags(int(match[3], 16)))


def parent_context(context: SpanContext | None) -> Context | None:
    """SDK context under which a child span continues a remote one."""
    return None if context is None else trace.set_span_in_context(NonRecordingSpan(context))
