"""OTLP bodies become span rows, the same from protobuf and from JSON; garbage is named."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.collector.otlp import JSON, PROTOBUF, parse_export, spans_of
from shared.errors import BadMessageError

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
START_NS = int(NOW.timestamp()) * 1_000_000_000
TRACE_ID, SPAN_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"


def export_json(**changes: Any) -> dict[str, Any]:
    span = {
        "traceId": TRACE_ID,
        "spanId": SPAN_ID,
        "parentSpanId": PARENT_ID,
        "name": "POST /api/route",
        "kind": 2,
        "startTimeUnixNano": str(START_NS),
        "endTimeUnixNano": str(START_NS + 1_234_567),
        "attributes": [
            {"key": "http.status_code", "value": {"intValue": "200"}},
            {"key": "model", "value": {"stringValue": "large\0"}},
            {"key": "tags", "value": {"arrayValue": {"values": [{"boolValue": True}, {"doubleValue": 0.5}]}}},
        ],
        "status": {"code": 1},
        **changes,
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "relaycore"}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}


def export_protobuf() -> bytes:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "relaycore"
    span = resource_spans.scope_spans.add().spans.add(
        trace_id=bytes.fromhex(TRACE_ID),
        span_id=bytes.fromhex(SPAN_ID),
        parent_span_id=bytes.fromhex(PARENT_ID),
        name="POST /api/route",
        kind="SPAN_KIND_SERVER",
        start_time_unix_nano=START_NS,
        end_time_unix_nano=START_NS + 1_234_567,
    )
    span.status.code = 1
    span.attributes.add(key="http.status_code").value.int_value = 200
    span.attributes.add(key="model").value.string_value = "large\0"
    values = span.attributes.add(key="tags").value.array_value.values
    values.add(bool_value=True)
    values.add(double_value=0.5)
    return bytes(request.SerializeToString())


def test_protobuf_and_json_of_the_same_span_are_the_same_row() -> None:
    from_json = spans_of(parse_export(json.dumps(export_json()).encode(), JSON), NOW)
    assert from_json == spans_of(parse_export(export_protobuf(), PROTOBUF), NOW)
    (row,) = from_json.rows
    assert (row.trace_id.hex, row.span_id.hex(), (row.parent_span_id or b"").hex()) == (TRACE_ID, SPAN_ID, PARENT_ID)
    assert (row.service, row.name, row.kind, row.status) == ("relaycore", "POST /api/route", 2, 1)
    assert (row.at, row.duration_us) == (NOW, 1_234)
    assert row.attributes == {"http.status_code": 200, "model": "large", "tags": [True, 0.5]}


def test_a_root_span_has_no_parent() -> None:
    (row,) = spans_of(parse_export(json.dumps(export_json(parentSpanId="")).encode(), JSON), NOW).rows
    assert row.parent_span_id is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"traceId": "abcd"}, "trace id needs 16 bytes", id="short trace id"),
        pytest.param({"spanId": ""}, "span id and parent 8", id="no span id"),
        pytest.param({"startTimeUnixNano": "1"}, "not within a day of now", id="no date"),
        pytest.param({"startTimeUnixNano": str(2**63)}, "not within a day of now", id="far future"),
    ],
)
def test_a_span_that_cannot_be_stored_is_rejected_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    spans = spans_of(parse_export(json.dumps(export_json(**changes)).encode(), JSON), NOW)
    assert (spans.rows, spans.rejected) == ([], 1)
    assert reason in spans.reason


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\xff\xff\xff garbage", PROTOBUF),
        (b"{", JSON),
        (b"[1, 2]", JSON),
        (b"\xff\xfe\xfd", JSON),
        (b"[" * 100_000, JSON),
        (json.dumps(export_json(traceId="not hexadecimal")).encode(), JSON),
        (json.dumps(export_json(traceId=7)).encode(), JSON),
        (json.dumps(export_json(kind={})).encode(), JSON),
        (json.dumps(export_json(links=[None])).encode(), JSON),
    ],
    ids=["protobuf", "cut", "list", "bytes", "deep", "hex", "number as id", "object as kind", "null link"],
)
def test_garbage_is_refused_in_one_line(body: bytes, content_type: str) -> None:
    with pytest.raises(BadMessageError) as caught:
        parse_export(body, content_type)
    assert "\n" not in str(caught.value)
    assert f"as {content_type}" in str(caught.value)
