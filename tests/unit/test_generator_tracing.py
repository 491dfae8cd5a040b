"""What is recorded of a trace, and what the systems are told of it, whether it is recorded or not."""

import re

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from services.generator.trace_budget import TraceBudget
from services.generator.tracing import Recorder, Tracing
from shared.contracts.timing import ErrorKind


class Kept(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def test_a_recorded_iteration_has_a_span_and_each_of_its_requests_one_below_it() -> None:
    kept = Kept()
    trail = (tracing := Tracing(Recorder(kept), "run-1", TraceBudget(100.0, 0))).begin("things", 7, 1)
    assert trail.root is not None
    header, span = tracing.request(trail.root, "things/look")
    span.end(ErrorKind.STATUS, 503)
    trail.root.end(ErrorKind.OK)
    below, above = kept.spans
    assert below.context is not None
    assert above.context is not None
    assert header == f"00-{trail.trace_id.hex()}-{below.context.span_id:016x}-01"
    assert (below.name, below.kind, above.name, above.kind) == (
        "things/look", SpanKind.CLIENT, "things", SpanKind.INTERNAL,
    )  # fmt: skip
    assert below.parent == above.context
    assert above.parent is None
    assert below.context.trace_id == above.context.trace_id == int.from_bytes(trail.trace_id, "big")
    assert dict(below.attributes or {}) == {"http.response.status_code": 503, "error.type": "status"}
    assert dict(above.attributes or {}) == {"tidegate.run": "run-1", "tidegate.user": 7}
    assert (below.status.status_code, above.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert (below.start_time or 0) >= (above.start_time or 0) > 0
    assert (above.end_time or 0) >= (below.end_time or 0)


def test_requests_of_a_trace_that_is_not_recorded_tell_it_all_the_same() -> None:
    kept = Kept()
    tracing = Tracing(Recorder(kept), "run-1", TraceBudget(0.0, 0))
    trails = [tracing.begin("things", 0, 1) for _ in range(3_000)]
    assert all(trail.root is None for trail in trails)
    assert len({trail.trace_id for trail in trails}) == 3_000
    headers = [trails[0].unrecorded() for _ in range(10)]
    assert all(re.fullmatch(rf"00-{trails[0].trace_id.hex()}-[0-9a-f]{{16}}-00", header) for header in headers)
    assert len(set(headers)) == 10
    assert kept.spans == []
