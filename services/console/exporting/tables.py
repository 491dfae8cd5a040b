"""The tables that a run is exported as: their columns with types and meanings, which the files carry with them."""

from enum import StrEnum

import pyarrow as pa

NAME = pa.dictionary(pa.int32(), pa.string())
MOMENT = pa.timestamp("us", tz="UTC")
TEXT, WHOLE, SMALL, REAL, YES = pa.string(), pa.int64(), pa.int32(), pa.float64(), pa.bool_()

Columns = tuple[tuple[str, pa.DataType, str], ...]


class What(StrEnum):
    """What can be exported; the value is also the file's name without suffix."""

    REQUESTS = "requests"
    WORKFLOWS = "workflows"
    WINDOWS = "windows"
    BREACHES = "breaches"
    SCALING = "scaling"
    RESOURCES = "resources"
    SPANS = "spans"


_ACTION: Columns = (
    ("run", NAME, "id of the run"),
    ("system", NAME, "system that was called"),
    ("scenario", NAME, ""),
    ("action", NAME, "step of the scenario; of a workflow or group, its name"),
    ("kind", NAME, "request, workflow or group"),
)

TIMINGS: Columns = (
    *_ACTION,
    ("worker", NAME, "generator worker that sent it"),
    ("user", SMALL, "index of the virtual user within the run"),
    ("attempt", SMALL, "0: the first try; the n-th poll of a polling step is n"),
    ("intended_at", MOMENT, "when the schedule wanted it sent"),
    ("sent_at", MOMENT, ""),
    ("done_at", MOMENT, ""),
    ("dispatch_delay_us", WHOLE, "sent - intended"),
    ("service_time_us", WHOLE, "done - sent"),
    ("response_time_us", WHOLE, "done - intended: what a user waited"),
    ("time_to_first_byte_us", WHOLE, "first byte of the answer - sent; NULL: none came"),
    ("connect_time_us", WHOLE, "0: the connection was reused"),
    ("time_to_first_token_us", WHOLE, "first token - sent; NULL: not a streamed answer"),
    ("longest_token_gap_us", WHOLE, "between two tokens; NULL: not a streamed answer"),
    ("tokens", SMALL, "of a streamed answer"),
    ("bytes_received", WHOLE, ""),
    ("bytes_sent", WHOLE, ""),
    ("status", SMALL, "of HTTP; NULL: no answer"),
    ("error", NAME, "how it ended; ok where nothing went wrong"),
    ("check", NAME, "of the step's expectations: none, passed or failed"),
    ("in_ramp_up", YES, "due during ramp-up, which is not judged"),
    ("trace_recorded", YES, ""),
    ("trace_id", TEXT, "32 hexadecimal digits; NULL: none was kept"),
)

FIGURES = ("mean", "p50", "p90", "p95", "p99", "max")

WINDOWS: Columns = (
    *_ACTION,
    ("at", MOMENT, "start of the window"),
    ("seconds", SMALL, "length of the window: 10, or 3600 of what is older than windows are kept"),
    ("count", WHOLE, "events that ended in it, failed and cancelled ones too"),
    ("failed", WHOLE, "an error other than a cancelled request, or an expectation not met"),
    ("cancelled", WHOLE, ""),
    ("in_ramp_up", WHOLE, ""),
    ("bytes_received", WHOLE, ""),
    ("bytes_sent", WHOLE, ""),
    *((f"service_time_{figure}_ms", REAL, "") for figure in FIGURES),
    *((f"response_time_{figure}_ms", REAL, "") for figure in FIGURES),
)

BREACHES: Columns = (
    ("run", TEXT, ""),
    ("breach", TEXT, "id of the episode"),
    ("revision", SMALL, "how many events it has had"),
    *((name, TEXT, "") for name in ("system", "service", "metric", "scenario", "action")),
    ("status", TEXT, "opened, escalated, updated or resolved"),
    ("level", TEXT, "target or critical: the limit that was crossed"),
    ("statistic", TEXT, ""),
    ("unit", TEXT, "of value, worst, limit, target and critical"),
    ("better", TEXT, "lower or higher"),
    *((name, REAL, "") for name in ("value", "worst", "limit", "target", "critical", "confidence")),
    ("samples", WHOLE, ""),
    ("opened_at", MOMENT, ""),
    ("resolved_at", MOMENT, "NULL: still open"),
    *((name, TEXT, "") for name in ("slowest_hop", "recommendation", "note")),
)

SCALING: Columns = (
    ("at", MOMENT, ""),
    ("service", TEXT, ""),
    ("sequence", WHOLE, "place in the service's chain"),
    ("kind", TEXT, "decision, result or effectiveness"),
    ("decision", TEXT, "id of the decision it is, or belongs to"),
    ("action", TEXT, ""),
    ("current_replicas", SMALL, ""),
    ("target_replicas", SMALL, ""),
    ("ready_replicas", SMALL, "of a result"),
    ("ok", YES, "of a result"),
    ("took_s", REAL, "of a result"),
    ("verdict", TEXT, "of an effectiveness: helped, no_effect, worse or unknown"),
    ("confidence", REAL, ""),
    ("reason", TEXT, "of a decision; of a result that failed, the error"),
    ("runs", TEXT, "runs it was decided for, joined by commas"),
    ("hash", TEXT, ""),
    ("record", TEXT, "the whole record as JSON"),
)

RESOURCES: Columns = (
    ("at", MOMENT, ""),
    *((name, TEXT, "") for name in ("service", "system", "instance")),
    ("ready", YES, "whether the instance took traffic"),
    ("metric", TEXT, "as in config/resources.yaml, which states its unit"),
    ("value", REAL, ""),
)

SPANS: Columns = (
    ("started_at", MOMENT, ""),
    ("duration_us", WHOLE, ""),
    ("trace_id", TEXT, "32 hexadecimal digits, as in requests"),
    ("span_id", TEXT, "16 hexadecimal digits"),
    ("parent_span_id", TEXT, "NULL: the root of its trace"),
    ("service", TEXT, ""),
    ("name", TEXT, ""),
    ("kind", SMALL, "1 internal, 2 server, 3 client, 4 producer, 5 consumer"),
    ("status", SMALL, "0 unset, 1 ok, 2 error"),
    ("attributes", TEXT, "JSON"),
)

TABLES: dict[What, Columns] = {
    What.REQUESTS: TIMINGS,
    What.WORKFLOWS: TIMINGS,
    What.WINDOWS: WINDOWS,
    What.BREACHES: BREACHES,
    What.SCALING: SCALING,
    What.RESOURCES: RESOURCES,
    What.SPANS: SPANS,
}


def schema_of(what: What) -> pa.Schema:
    """Columns of a table; a meaning that the name does not tell stands in the field's metadata."""
    return pa.schema(
        [
            pa.field(name, kind, metadata={"description": meaning} if meaning else None)
            for name, kind, meaning in TABLES[what]
        ]
    )
