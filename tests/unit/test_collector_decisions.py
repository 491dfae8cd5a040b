"""The collector's small decisions: when a batch closes, what is admitted, how long to wait, when to give up."""

import struct
from dataclasses import replace

import pytest

from services.collector import backoff
from services.collector.admission import Admission
from services.collector.batching import Batch, BatchLimits
from services.collector.copy_rows import POSTGRES_EPOCH_US, NamedFrame, build_copy
from services.collector.dead_letters import DeadLimit
from shared.contracts.frame import Frame, FrameId
from shared.store.ingest import TIMING_COLUMNS
from tests.unit.collector_frames import make_events, make_frame

NOW_US = 1_764_000_000_000_000
ADMISSION = Admission(max_age_s=3_600, max_ahead_s=60)


def frame_at(offset_s: float) -> Frame:
    events = make_events(3, intended_us=0, dispatch_us=0, service_us=1_000)
    return make_frame(1, events=events, anchor_wall_us=NOW_US + int(offset_s * 1e6))


@pytest.mark.parametrize("offset_s", [-3_599, 0, 59], ids=["as old as allowed", "now", "as far ahead as allowed"])
def test_events_near_now_are_admitted(offset_s: float) -> None:
    assert ADMISSION.refuse(frame_at(offset_s), NOW_US) is None


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
        pytest.param(make_frame(1, worker="w\0"), "NUL", id="a name PostgreSQL cannot hold"),
        pytest.param(make_frame(1, sent=2**63), "counter", id="a counter beyond 64 bits"),
        pytest.param(make_frame(1, events=make_events(1, status=40_000)), "status 40000", id="a status that wraps"),
        pytest.param(make_frame(1, events=make_events(1, tokens=2**31)), "tokens", id="tokens that wrap"),
        pytest.param(make_frame(1, anchor_wall_us=2**62), "out of reach", id="an anchor without a date"),
        pytest.param(
            make_frame(1, events=make_events(1, intended_us=-(2**63))), "out of reach", id="a schedule without a date"
        ),
    ],
)
def test_what_cannot_be_stored_is_refused_with_the_reason(frame: Frame, reason: str) -> None:
    refused = ADMISSION.refuse(frame, NOW_US)
    assert refused is not None
    assert reason in refused


def test_a_heartbeat_is_admitted_whatever_its_age() -> None:
    assert ADMISSION.refuse(make_frame(1, anchor_wall_us=NOW_US - 10**13), NOW_US) is None


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


def test_a_copy_stream_is_header_rows_and_trailer_with_every_field_in_its_place() -> None:
    events = make_events(1, intended_us=5, dispatch_us=6, service_us=7_000, user=8, status=204, attempt=3, action=1)
    frame = replace(make_frame(1, events=events), anchor_wall_us=POSTGRES_EPOCH_US, id=FrameId("r", "w", 1, "s", 1))
    stream = build_copy([NamedFrame(frame, 11, [21, 22, 23])])
    assert stream.startswith(b"PGCOPY\n\xff\r\n\0" + bytes(8))
    assert stream.endswith(b"\xff\xff")
    row = stream[19:-2]
    (fields,) = struct.unpack_from(">h", row)
    at = 2
    values: dict[str, int] = {}
    for name, _ in TIMING_COLUMNS:
        (size,) = struct.unpack_from(">i", row, at)
        values[name] = int.from_bytes(row[at + 4 : at + 4 + size], "big")
        at += 4 + size
    assert at == len(row)
    assert fields == len(TIMING_COLUMNS)
    assert values["at"] == 5 + 6 + 7_000
    assert (values["series_id"], values["producer_id"], values["user_no"]) == (22, 11, 8)
    assert (values["dispatch_us"], values["service_us"], values["status"], values["attempt"]) == (6, 7_000, 204, 3)
    assert values["trace_id"] == int.from_bytes(events["trace_id"][0].tobytes(), "big")


def test_a_batch_of_heartbeats_is_a_stream_without_rows() -> None:
    heartbeat = NamedFrame(make_frame(1), 1, [1, 2, 3])
    assert build_copy([heartbeat, heartbeat]) == b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\xff\xff"
