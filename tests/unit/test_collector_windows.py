"""Windows of a frame: nothing is counted twice or left out, and the worst are named."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.collector.measures import Measures
from services.collector.windows import windows_of
from shared.contracts.frame import Frame
from shared.contracts.timing import Check, ErrorKind, EventFlag, Kind
from shared.contracts.window import FrameWindows
from shared.histogram import Histogram, bucket_of
from tests.unit.collector_frames import make_events, make_frame

ANCHOR_US = 1_764_000_000_000_000


def frame_of(count: int, seed: int) -> Frame:
    """Small and largest values in every column; one in three events has its extreme."""
    generator = np.random.default_rng(seed)

    def column(most: int) -> NDArray[np.int64]:
        edges = generator.choice([0, most], count)
        return np.where(generator.random(count) < 1 / 3, edges, generator.integers(0, most, count, endpoint=True))

    events = make_events(
        count,
        intended_us=column(3_000_000),
        dispatch_us=np.where(generator.random(count) < 0.8, 0, column(2**32 - 1)),
        service_us=np.where(generator.random(count) < 0.8, column(90_000), column(2**32 - 1)),
        bytes_in=column(2**32 - 1),
        action=column(2),
        error=column(max(ErrorKind)),
        check=column(2),
        flags=column(3),
    )
    return make_frame(7, events=events, anchor_wall_us=ANCHOR_US)


def read(frame: Frame, environment: str = "local") -> FrameWindows:
    return FrameWindows.model_validate_json(windows_of([(frame, Measures.of(frame))], environment)[0])


frames = st.builds(frame_of, count=st.integers(0, 40), seed=st.integers(0, 2**32))
some = settings(max_examples=40, deadline=None)


@some
@given(frames)
def test_every_event_is_in_exactly_one_cell(frame: Frame) -> None:
    windows = read(frame)
    events = frame.events
    response = events["service_us"].astype(np.int64) + events["dispatch_us"]
    assert sum(cell.count for cell in windows.cells) == len(events)
    assert sum(cell.bytes_in for cell in windows.cells) == int(events["bytes_in"].astype(np.int64).sum())
    assert sum(cell.service_sum_us for cell in windows.cells) == int(events["service_us"].astype(np.int64).sum())
    assert sum(cell.response_sum_us for cell in windows.cells) == int(response.sum())
    keys = [(cell.scenario, cell.action, cell.kind, cell.second) for cell in windows.cells]
    assert len(set(keys)) == len(keys)


@some
@given(frames)
def test_a_cell_agrees_with_its_events_counted_one_by_one(frame: Frame) -> None:
    for cell in read(frame).cells:
        mine = [
            event
            for event, done in zip(frame.events, frame.done_wall_us, strict=True)
            if frame.actions[event["action"]].action == cell.action and done // 1_000_000 == cell.second
        ]
        services = [int(event["service_us"]) for event in mine]
        responses = [int(event["service_us"]) + int(event["dispatch_us"]) for event in mine]
        assert cell.count == len(mine)
        assert cell.service == Histogram.of(services).counts
        assert cell.response == Histogram.of(responses).counts
        assert (cell.service_max_us, cell.response_max_us) == (max(services), max(responses))
        assert cell.ramp_up == sum(bool(event["flags"] & EventFlag.RAMP_UP) for event in mine)
        assert cell.failed == sum(
            event["error"] not in (ErrorKind.OK, ErrorKind.CANCELLED) or event["check"] == Check.FAILED
            for event in mine
        )
        wrong = [int(event["error"]) for event in mine if event["error"]]
        assert cell.errors == {kind: wrong.count(kind) for kind in set(wrong)}


@some
@given(frames)
def test_the_worst_are_the_slowest_and_one_is_recorded_where_any_is(frame: Frame) -> None:
    for cell in read(frame).cells:
        assert cell.worst[0].response_us == cell.response_max_us or cell.worst[0].recorded
        assert len(cell.worst) == min(3, cell.count)
        assert [worst.response_us for worst in cell.worst] == sorted((w.response_us for w in cell.worst), reverse=True)
        recorded = {
            event["trace_id"].tobytes().hex()
            for event, done in zip(frame.events, frame.done_wall_us, strict=True)
            if frame.actions[event["action"]].action == cell.action
            and done // 1_000_000 == cell.second
            and event["flags"] & EventFlag.TRACE_RECORDED
        }
        assert any(worst.recorded for worst in cell.worst) == bool(recorded)
        assert {worst.trace_id for worst in cell.worst if worst.recorded} <= recorded


def test_a_heartbeat_has_no_cells_but_tells_what_is_in_flight_in_wall_time() -> None:
    windows = read(make_frame(3, sent=12, anchor_wall_us=ANCHOR_US), "staging")
    assert windows.cells == ()
    assert (windows.environment, windows.seq) == ("staging", 3)
    assert (windows.watermark_us, windows.emitted_us) == (ANCHOR_US + 2_500_000, ANCHOR_US + 2_600_000)
    assert [(now.action, now.sent, now.in_flight, now.waiting, now.ages) for now in windows.actions] == [
        ("authenticate", 12, 1, 2, {300: 3}),
        ("read", 12, 1, 2, {300: 3}),
        ("login", 12, 1, 2, {300: 3}),
    ]


def test_windows_have_every_field_of_their_contract_and_no_other() -> None:
    frame = make_frame(1, events=make_events(50))
    told = json.loads(windows_of([(frame, Measures.of(frame))], "local")[0])
    assert told == json.loads(FrameWindows.model_validate(told).model_dump_json())


def test_a_workflow_is_a_cell_of_its_own_kind() -> None:
    events = make_events(2, intended_us=0, dispatch_us=0, service_us=[1_000, 900_000], action=2)
    (cell,) = read(make_frame(1, events=events, anchor_wall_us=ANCHOR_US)).cells
    assert (cell.kind, cell.second) == (Kind.WORKFLOW, ANCHOR_US // 1_000_000)
    assert cell.service == {bucket_of(1_000): 1, bucket_of(900_000): 1}
