"""The collector's small decisions: when a batch closes, what is admitted, how long to wait, when to give up."""

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.collector import backoff
from services.collector.admission import Admission
from services.collector.batching import Batch, BatchLimits
from services.collector.copy_rows import POSTGRES_EPOCH_US, build_rows
from services.collector.dead_letters import DeadLimit
from services.collector.measures import Measures
from services.collector.rollups import parts_of
from shared.contracts.frame import Frame, FrameId
from shared.contracts.timing import ErrorKind
from shared.histogram import Histogram, bucket_of
from shared.store.ingest import TIMING_COLUMNS
from shared.store.packed import PACKED_BITS, PACKED_COUNT
from tests.unit.collector_frames import make_events, make_frame

NOW_US = 1_764_000_000_000_000
ADMISSION = Admission(max_age_s=3_600, max_ahead_s=60)


def refuse(frame: Frame) -> str | None:
    return ADMISSION.refuse(frame, Measures.of(frame), NOW_US)


def frame_at(offset_s: float) -> Frame:
    events = make_events(3, intended_us=0, dispatch_us=0, service_us=1_000)
    return make_frame(1, events=events, anchor_wall_us=NOW_US + int(offset_s * 1e6))


@pytest.mark.parametrize("offset_s", [-3_599, 0, 59], ids=["as old as allowed", "now", "as far ahead as allowed"])
def test_events_near_now_are_admitted(offset_s: float) -> None:
    assert refuse(frame_at(offset_s)) is None


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        pytest.param(frame_at(-3_601), "more than 3600 s before", id="too old"),
        pytest.param(frame_at(61), "more than 60 s after", id="in the future"),
        pytest.param(make_frame(0), "seq 0", id="no seq"),
        pytest.param(make_frame(2**63), "seq", id="seq beyond 64 bits"),
        pytest.param(make_frame(1, epoch=2**63), "epoch", id="an epoch beyond 64 bits"),
        pytest.param(make_frame(1, run="A b"), "no run id", id="a run that is no subject token"),
        pytest.param(make_frame(1, system="a.b"), "no system id", id="a system that is two subject tokens"),
        pytest.param(make_frame(1, worker="w\0"), "control", id="a name PostgreSQL cannot hold"),
        pytest.param(make_frame(1, worker="w\r\nA: b"), "control", id="a name that would be two headers"),
        pytest.param(make_frame(1, sent=2**63), "counter", id="a counter beyond 64 bits"),
        pytest.param(make_frame(1, events=make_events(1, status=40_000)), "status 40000", id="a status that wraps"),
        pytest.param(make_frame(1, events=make_events(1, tokens=2**31)), "tokens", id="tokens that wrap"),
        pytest.param(make_frame(1, events=make_events(1, error=16)), "error 16", id="an error nobody knows"),
        pytest.param(make_frame(1, events=make_events(1, check=3)), "check 3", id="a check nobody knows"),
        pytest.param(make_frame(1, anchor_wall_us=2**62), "out of reach", id="an anchor without a date"),
        pytest.param(
            make_frame(1, events=make_events(1, intended_us=-(2**63))), "out of reach", id="a schedule without a date"
        ),
    ],
)
def test_what_cannot_be_stored_is_refused_with_the_reason(frame: Frame, reason: str) -> None:
    refused = refuse(frame)
    assert refused is not None
    assert reason in refused


def test_a_heartbeat_is_admitted_whatever_its_age() -> None:
    assert refuse(make_frame(1, anchor_wall_us=NOW_US - 10**13)) is None


def test_a_batch_closes_by_events_by_bytes_or_by_age() -> None:
    limits = BatchLimits(events=10, bytes=1_000, age_s=0.5)
    batch = Batch[str](limits)
    assert not batch.due(100.0)
    assert batch.patience_s(100.0, idle_s=9.0) == 9.0
    batch.add("a", 4, 100, now=100.0)
    assert not batch.due(100.4)
    assert batch.patience_s(100.4, idle_s=9.0) == pytest.approx(0.1)
    assert batch.due(100.5)
    batch.add("b", 6, 100, now=100.1)
    assert batch.full
    assert batch.due(100.1)
    by_bytes = Batch[str](limits)
    by_bytes.add("c", 0, 1_000, now=0.0)
    assert by_bytes.full


def test_waiting_doubles_up_to_a_cap_and_never_falls_below_half() -> None:
    assert [backoff.delay_s(attempt, 0.0) for attempt in (1, 2, 3)] == [0.05, 0.1, 0.2]
    assert backoff.delay_s(50, 0.999) <= backoff.CAP_S
    assert backoff.delay_s(10**9, 0.0) == backoff.CAP_S / 2


def test_dead_letters_are_limited_within_a_sliding_minute() -> None:
    limit = DeadLimit(2, 60.0)
    assert [limit.admit(now) for now in (0.0, 1.0, 2.0)] == [True, True, False]
    assert limit.admit(60.0)
    assert not limit.admit(60.5)


def parse_row(row: bytes, at: int) -> tuple[dict[str, int | None], int]:
    """One row of a binary COPY by column, and where the next begins."""
    (fields,) = struct.unpack_from(">h", row, at)
    assert fields == len(TIMING_COLUMNS)
    at += 2
    values: dict[str, int | None] = {}
    for name, _ in TIMING_COLUMNS:
        (size,) = struct.unpack_from(">i", row, at)
        at += 4
        values[name] = int.from_bytes(row[at : at + size], "big") if size >= 0 else None
        at += max(size, 0)
    return values, at


def test_a_row_has_every_field_in_its_place() -> None:
    events = make_events(1, intended_us=5, dispatch_us=6, service_us=7_000, user=8, status=204, attempt=3, action=1)
    frame = replace(make_frame(1, events=events), anchor_wall_us=POSTGRES_EPOCH_US, id=FrameId("r", "w", 1, "s", 1))
    rows = build_rows(frame, Measures.of(frame), 11, [21, 22, 23])
    values, end = parse_row(rows, 0)
    assert end == len(rows)
    assert values["at"] == 5 + 6 + 7_000
    assert (values["series_id"], values["producer_id"], values["user_no"]) == (22, 11, 8)
    assert (values["dispatch_us"], values["service_us"], values["status"], values["attempt"]) == (6, 7_000, 204, 3)
    assert (values["service_bucket"], values["response_bucket"]) == (bucket_of(7_000), bucket_of(7_006))


def test_a_trace_id_is_kept_where_it_was_recorded_or_the_request_failed() -> None:
    flags, errors = [0, 1, 0, 0, 3], [0, 0, ErrorKind.TIMEOUT, ErrorKind.CANCELLED, 0]
    events = make_events(5, user=range(5), flags=flags, error=errors, check=[0, 0, 0, 0, 2])
    frame = make_frame(1, events=events)
    rows = build_rows(frame, Measures.of(frame), 1, [1, 2, 3])
    found, at = [], 0
    while at < len(rows):
        values, at = parse_row(rows, at)
        found.append((values["user_no"], values["trace_id"]))
    ids = [int.from_bytes(trace.tobytes(), "big") for trace in events["trace_id"]]
    assert found == [(0, None), (1, ids[1]), (2, ids[2]), (3, None), (4, ids[4])]


def test_rows_do_not_depend_on_the_frames_built_before() -> None:
    frames = [make_frame(seq, events=make_events(count, seed=seq)) for seq, count in ((1, 3_000), (2, 5), (3, 700))]
    alone = [build_rows(frame, Measures.of(frame), 1, [1, 2, 3]) for frame in frames]
    assert [build_rows(frame, Measures.of(frame), 1, [1, 2, 3]) for frame in reversed(frames)] == alone[::-1]
    assert build_rows(make_frame(4), Measures.of(make_frame(4)), 1, [1, 2, 3]) == b""


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2**32)), max_size=4))
def test_every_event_is_in_exactly_one_part_of_the_roll_ups(sizes: list[tuple[int, int]]) -> None:
    frames = []
    for number, (count, seed) in enumerate(sizes, 1):
        rng = np.random.default_rng(seed)
        columns = {name: rng.integers(0, most, count, endpoint=True) for name, most in (("error", 15), ("flags", 3))}
        events = make_events(count, seed, **columns, intended_us=rng.integers(0, 40_000_000, count))
        frames.append(make_frame(number, events=events, anchor_wall_us=NOW_US))
    parts = parts_of([(frame, Measures.of(frame), [7, 8, 7]) for frame in frames])
    assert len({(part.series_id, part.at, part.ramp_up, part.cancelled) for part in parts}) == len(parts)
    expected: dict[tuple[int, int, bool, bool], list[int]] = {}
    for event, done in ((event, done) for f in frames for event, done in zip(f.events, f.done_wall_us, strict=True)):
        cancelled = event["error"] == ErrorKind.CANCELLED
        key = ([7, 8, 7][event["action"]], int(done) // 10_000_000 * 10, bool(event["flags"] & 2), bool(cancelled))
        expected.setdefault(key, []).append(int(event["service_us"]))
    told = {(part.series_id, int(part.at.timestamp()), part.ramp_up, part.cancelled): part for part in parts}
    assert told.keys() == expected.keys()
    for key, services in expected.items():
        part = told[key]
        assert (part.n, part.service_sum_us, part.service_max_us) == (len(services), sum(services), max(services))
        assert {pair >> PACKED_BITS: pair & PACKED_COUNT for pair in part.service} == Histogram.of(services).counts
        assert sum(pair & PACKED_COUNT for pair in part.response) == len(services)
