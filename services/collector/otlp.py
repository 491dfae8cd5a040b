"""OTLP/HTTP bodies become span rows; what is wrong with a body or a span is said in a line.

Protobuf and JSON as in the OpenTelemetry Protocol 1.x (https://opentelemetry.io/docs/specs/otlp/): in JSON, ids are
hexadecimal where protobuf's own JSON mapping has base64.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from shared.contracts.base import utc_of_us
from shared.errors import BadMessageError
from shared.store.spans import SpanRow

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
MAX_NAME = 120
MAX_ATTRIBUTES = 64
MAX_TEXT = 1_000
MAX_PAST = timedelta(days=1)
MAX_AHEAD = timedelta(days=1)
"""Both within the partitions that are always there."""

_MALFORMED = (DecodeError, json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError)
_IDS = ("traceId", "spanId", "parentSpanId")


@dataclass(frozen=True, slots=True)
class Spans:
    """What of one export can be stored, and how many spans cannot, with the reason of the last of these."""

    rows: list[SpanRow]
    rejected: int = 0
    reason: str = ""


def parse_export(body: bytes, content_type: str) -> ExportTraceServiceRequest:
    """Raises ``BadMessageError`` with what is wrong with the body."""
    request = ExportTraceServiceRequest()
    try:
        if content_type == PROTOBUF:
            request.ParseFromString(body)
        else:
            document = json.loads(body)
            for span in _json_spans(document):
                for name in _IDS:
                    if name in span:
                        span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
            json_format.ParseDict(document, request, ignore_unknown_fields=True)
    except _MALFORMED as error:
        reason = " ".join(str(error).split())
        raise BadMessageError(f"body is no ExportTraceServiceRequest as {content_type}: {reason}") from error
    return request


def write_response(spans: Spans, content_type: str, *, sampled: int = 0) -> bytes:
    """The answer in the encoding of the request; names what of it was not accepted, if anything was not.

    ``sampled``: how many of its spans were given up although nothing is wrong with them.
    """
    response = ExportTraceServiceResponse()
    if spans.rejected or sampled:
        reasons = [spans.reason] if spans.rejected else []
        reasons += [f"{sampled} spans of quick traces were sampled out"] if sampled else []
        response.partial_success.rejected_spans = spans.rejected + sampled
        response.partial_success.error_message = "; ".join(reasons)
    if content_type == PROTOBUF:
        return bytes(response.SerializeToString())
    return str(json_format.MessageToJson(response, indent=None)).encode()


def spans_of(request: ExportTraceServiceRequest, now: datetime) -> Spans:
    """Rows of all spans that have ids and lie within a day of ``now``; names and attributes are capped."""
    rows: list[SpanRow] = []
    rejected, reason = 0, ""
    for resource_spans in request.resource_spans:
        service = _text(_attributes(resource_spans.resource.attributes).get("service.name") or "unknown", MAX_NAME)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                if problem := _problem(span, now):
                    rejected, reason = rejected + 1, problem
                else:
                    rows.append(_row(span, service))
    return Spans(rows, rejected, reason)


def _problem(span: Span, now: datetime) -> str:
    if len(span.trace_id) != 16 or len(span.span_id) != 8 or len(span.parent_span_id) not in (0, 8):
        return f"span {span.name[:80]!r}: trace id needs 16 bytes, span id and parent 8"
    earliest, latest = (now - MAX_PAST).timestamp() * 1e9, (now + MAX_AHEAD).timestamp() * 1e9
    if not earliest <= span.start_time_unix_nano <= latest:
        return f"span {span.name[:80]!r}: start_time_unix_nano {span.start_time_unix_nano} is not within a day of now"
    return ""


def _row(span: Span, service: str) -> SpanRow:
    return SpanRow(
        at=utc_of_us(span.start_time_unix_nano // 1_000),
        trace_id=UUID(bytes=span.trace_id),
        span_id=span.span_id,
        parent_span_id=span.parent_span_id or None,
        service=service,
        name=_text(span.name, MAX_NAME),
        kind=min(max(span.kind, 0), 2**15 - 1),
        duration_us=max(0, span.end_time_unix_nano - span.start_time_unix_nano) // 1_000,
        status=min(max(span.status.code, 0), 2**15 - 1),
        attributes=_attributes(span.attributes),
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    found = {_text(pair.key, MAX_NAME): _value(pair.value) for pair in pairs}
    return dict(list(found.items())[:MAX_ATTRIBUTES])


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind in ("bool_value", "int_value"):
        return getattr(value, kind)
    if kind == "double_value":
        # JSON has no NaN and no infinity.
        return value.double_value if abs(value.double_value) < float("inf") else str(value.double_value)
    if kind == "string_value":
        return _text(value.string_value, MAX_TEXT)
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values[:MAX_ATTRIBUTES]]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return value.bytes_value[:MAX_TEXT].hex() if kind == "bytes_value" else None


def _text(text: object, most: int) -> str:
    """Cut to size and without the one character that PostgreSQL cannot hold."""
    return str(text).replace("\0", "")[:most]


def _json_spans(document: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for resource_spans in document.get("resourceSpans", ()):
        for scope_spans in resource_spans.get("scopeSpans", ()):
            for span in scope_spans.get("spans", ()):
                yield span
                yield from span.get("links", ())
