"""Event streams: what was sent is either a row or in flight, and waiting counts from when it was due."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generator.event_stream import EventStream, Outcome
from shared.clock import Anchor
from shared.contracts.frame import Frame, Health, decode, encode
from shared.contracts.timing import ErrorKind, Kind

HEALTH = Health(1, 0, 2, 3, 4)


def stream() -> EventStream:
    return EventStream("run-1", "w1", 7, "shop", Anchor(wall_us=1_000_000_000, monotonic_us=1_000))


def test_a_request_becomes_a_row_with_its_three_times() -> None:
    events = stream()
    action = events.declare("things", "look", Kind.REQUEST)
    ticket = events.due(action, 2_000, 5)
    events.send(ticket, 2_500)
    events.finish(ticket, Outcome(done_us=9_500, status=200))
    frame = events.cut(10_000, HEALTH)[-1]
    (row,) = frame.events
    assert (row["intended_us"], row["dispatch_us"], row["service_us"]) == (1_000, 500, 7_000)
    assert frame.done_wall_us.tolist() == [1_000_008_500]
    assert frame.actions[0].sent == 1
    assert frame.health.schedule_error_us == 500
    assert frame.watermark_us == 9_000


def test_what_is_in_flight_or_in_line_shows_with_its_age() -> None:
    events = stream()
    action = events.declare("things", "look", Kind.REQUEST)
    events.send(events.due(action, 2_000, 1), 2_000)
    events.due(action, 3_000, 2)
    events.due(action, 99_000, 3)
    (state,) = events.cut(10_000, HEALTH)[-1].actions
    assert (state.sent, state.in_flight, state.waiting) == (1, 1, 1)
    assert sum(state.ages.values()) == 2
    assert (events.sent, events.in_flight) == (1, 1)


def test_workflows_are_timed_but_are_no_requests() -> None:
    events = stream()
    ticket = events.due(events.declare("things", "workflow", Kind.WORKFLOW), 1_000, 0)
    events.send(ticket, 1_000)
    assert (events.sent, events.in_flight) == (0, 0)
    events.finish(ticket, Outcome(2_000))
    assert len(events.cut(3_000, HEALTH)[-1].events) == 1


def test_lateness_that_a_busy_user_caused_is_not_the_generators() -> None:
    events = stream()
    ticket = events.due(events.declare("things", "look", Kind.REQUEST), 1_000, 0)
    events.send(ticket, 900_000, own_delay=False)
    assert events.cut(900_001, HEALTH)[-1].health.schedule_error_us == 0


def test_a_request_that_was_never_sent_cannot_have_ended() -> None:
    events = stream()
    ticket = events.due(events.declare("things", "look", Kind.REQUEST), 1_000, 0)
    with pytest.raises(ValueError, match="never sent"):
        events.finish(ticket, Outcome(2_000))


def test_more_than_256_actions_are_refused() -> None:
    events = stream()
    for number in range(256):
        events.declare("things", f"a{number}", Kind.REQUEST)
    with pytest.raises(ValueError, match="more than 256 actions"):
        events.declare("things", "one too many", Kind.REQUEST)


@given(st.lists(st.sampled_from(["due", "send", "finish", "drop", "cut"]), max_size=60))
def test_sent_is_always_rows_plus_in_flight(moves: list[str]) -> None:
    events = stream()
    action = events.declare("things", "look", Kind.REQUEST)
    frames: list[Frame] = []
    line, flying, now = [], [], 1_000
    for move in moves:
        now += 10
        if move == "due":
            line.append(events.due(action, now, 0))
        elif move == "send" and line:
            flying.append(line.pop(0))
            events.send(flying[-1], now)
        elif move == "finish" and flying:
            events.finish(flying.pop(), Outcome(now, ErrorKind.TIMEOUT))
        elif move == "drop" and line:
            events.drop(line.pop())
        elif move == "cut":
            frames += [decode(encode(frame)) for frame in events.cut(now, HEALTH)]
    frames += events.cut(now, HEALTH, final=True)
    (last,) = frames[-1].actions
    assert last.sent == sum(len(frame.events) for frame in frames) + last.in_flight
    assert (last.in_flight, last.waiting) == (len(flying), len(line))
    assert [frame.id.seq for frame in frames] == list(range(1, len(frames) + 1))


def test_many_events_go_in_frames_of_a_thousand_and_only_the_last_moves_the_watermark() -> None:
    events = EventStream("run-1", "w1", 1, "shop", Anchor(0, 0))
    action = events.declare("things", "look", Kind.REQUEST)
    for number in range(2_500):
        ticket = events.due(action, number, 0)
        events.send(ticket, number)
        events.finish(ticket, Outcome(number + 1))
    frames = events.cut(10_000, HEALTH, final=True)
    assert [len(frame.events) for frame in frames] == [1_000, 1_000, 500]
    assert [frame.id.seq for frame in frames] == [1, 2, 3]
    assert [frame.watermark_us for frame in frames] == [0, 0, 10_000]
    assert [frame.final for frame in frames] == [False, False, True]
    assert len(events.cut(11_000, HEALTH)) == 1
