"""Drawn traces as the collector stores them."""

from datetime import datetime, timedelta
from uuid import UUID

from shared.store.figures import TraceSpan
from shared.store.spans import SpanRow

LOST = b"\xff" * 8
"""Id of a parent that is not among the spans."""


def rows_of(trace_id: UUID, spans: list[TraceSpan], began: datetime) -> list[SpanRow]:
    return [
        SpanRow(
            at=began + timedelta(microseconds=span.start_us),
            trace_id=trace_id,
            span_id=span.span_id,
            parent_span_id=span.parent_span_id or None,
            service=span.service,
            name=span.name,
            kind=span.kind,
            duration_us=span.duration_us,
            status=0,
            attributes={"peer.service": span.peer} if span.peer else {},
        )
        for span in renamed(spans)
    ]


def renamed(spans: list[TraceSpan]) -> list[TraceSpan]:
    """Ids of eight bytes, as the protocol has them."""
    number = {span.span_id: n.to_bytes(8, "big") for n, span in enumerate(spans, 1)}
    return [
        TraceSpan(
            **{name: getattr(span, name) for name in TraceSpan.__slots__}
            | {
                "span_id": number[span.span_id],
                "parent_span_id": number.get(span.parent_span_id, span.parent_span_id and LOST),
            }
        )
        for span in spans
    ]
