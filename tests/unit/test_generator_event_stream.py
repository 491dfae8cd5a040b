"""Event streams: what was sent is either a row or in flight, and waiting counts from when it was due."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generator.event_stream import NO_TRACE, EventStream, Ticket
from services.generator.transport import Response
from services.generator.user import Arrival
from shared.clock import Anchor
from shared.contracts.frame import Frame, Health, decode, encode
from shared.contracts.timing import Check, ErrorKind, Kind
from shared.histogram import bucket_of


class Open:
    """A gate that is always open."""

    free_until_us = 2**62
    ours = True

    async def opened(self) -> None: ...

    async def permit(self) -> None: ...

    async def sleep_until(self, due_us: int) -> None: ...


HEALTH = Health(1, 0, 2, 3, 4)


def stream() -> EventStream:
    return EventStream("run-1", "w1", 7, "shop", Anchor(wall_us=1_000_000_000, monotonic_us=1_000))


def finish(events: EventStream, ticket: Ticket, response: Response, error: ErrorKind = ErrorKind.OK) -> None:
    events.finish(ticket, response, error, Check.NONE, 0, 0, NO_TRACE)


def test_a_request_becomes_a_row_with_its_three_times() -> None:
    events = stream()
    action = events.declare("things", "look", Kind.REQUEST)
    ticket = events.begin(action, 2_000, 5, 2_500, own_delay=True)
    finish(events, ticket, Response(9_500, status=200))
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
    events.begin(action, 2_000, 1, 2_000, own_delay=True)
    events.due(action, 3_000, 2)
    events.due(action, 99_000, 3)
    (state,) = events.cut(10_000, HEALTH)[-1].actions
    assert (state.sent, state.in_flight, state.waiting) == (1, 1, 1)
    assert sum(state.ages.values()) == 2
    assert (events.sent, events.in_flight) == (1, 1)


def test_workflows_are_timed_but_are_no_requests() -> None:
    events = stream()
    ticket = events.begin(events.declare("things", "workflow", Kind.WORKFLOW), 1_000, 0, 1_000, own_delay=True)
    assert (events.sent, events.in_flight) == (0, 0)
    finish(events, ticket, Response(2_000))
    assert len(events.cut(3_000, HEALTH)[-1].events) == 1


def test_lateness_that_a_busy_user_caused_is_not_the_generators() -> None:
    events = stream()
    events.begin(events.declare("things", "look", Kind.REQUEST), 1_000, 0, 900_000, own_delay=False)
    assert events.cut(900_001, HEALTH)[-1].health.schedule_error_us == 0


def test_what_the_generator_sent_late_puts_the_frames_of_its_sending_and_of_its_answer_at_fault() -> None:
    events = stream()
    action = events.declare("things", "look", Kind.REQUEST)
    finish(events, events.begin(action, 1_000, 0, 101_000, own_delay=True), Response(110_000))
    finish(events, events.begin(action, 1_000, 0, 900_000, own_delay=False), Response(910_000))
    assert not events.cut(950_000, HEALTH)[-1].at_fault
    late = events.begin(action, 1_000_000, 0, 1_300_000, own_delay=True)
    assert events.cut(1_400_000, HEALTH)[-1].at_fault
    assert not events.cut(1_600_000, HEALTH)[-1].at_fault
    finish(events, late, Response(1_700_000))
    assert events.cut(1_800_000, HEALTH)[-1].at_fault
    assert not events.cut(2_000_000, HEALTH)[-1].at_fault


def test_a_request_that_was_never_sent_cannot_have_ended() -> None:
    events = stream()
    ticket = events.due(events.declare("things", "look", Kind.REQUEST), 1_000, 0)
    with pytest.raises(ValueError, match="never sent"):
        finish(events, ticket, Response(2_000))


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
            events.drop(line.pop(0))
            flying.append(events.begin(action, now, 0, now, own_delay=True))
        elif move == "finish" and flying:
            finish(events, flying.pop(), Response(now), ErrorKind.TIMEOUT)
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
        ticket = events.begin(action, number, 0, number, own_delay=True)
        finish(events, ticket, Response(number + 1))
    frames = events.cut(10_000, HEALTH, final=True)
    assert [len(frame.events) for frame in frames] == [1_000, 1_000, 500]
    assert [frame.id.seq for frame in frames] == [1, 2, 3]
    assert [frame.watermark_us for frame in frames] == [0, 0, 10_000]
    assert [frame.final for frame in frames] == [False, False, True]
    assert len(events.cut(11_000, HEALTH)) == 1


def test_what_does_not_fit_its_column_becomes_the_most_that_does() -> None:
    events = stream()
    ticket = events.begin(events.declare("things", "look", Kind.REQUEST), 2_000, 1, 2_000, own_delay=True)
    finish(events, ticket, Response(1_000, bytes_in=2**40, status=200))
    (row,) = events.cut(10_000, HEALTH)[-1].events
    assert (row["service_us"], row["bytes_in"], row["status"]) == (0, 2**32 - 1, 200)


def test_an_arrival_nobody_serves_is_a_row_with_its_wait() -> None:
    events = stream()
    events.refuse(events.declare("things", "look", Kind.REQUEST), 2_000, 4, 502_000)
    (frame,) = events.cut(600_000, HEALTH)
    (row,) = frame.events
    assert (row["error"], row["dispatch_us"], row["service_us"]) == (ErrorKind.REFUSED, 500_000, 0)
    assert frame.actions[0].sent == 1
    assert frame.health.schedule_error_us == 0


def test_a_line_of_arrivals_shows_with_its_ages() -> None:
    events = stream()
    action = events.declare("things", "look", Kind.REQUEST)
    line = [Arrival(1_000, 0, Open()), Arrival(901_000, 1, Open())]
    events.watch_line(action, line)
    (state,) = events.cut(1_001_000, HEALTH)[-1].actions
    assert state.waiting == 2
    assert state.ages == {bucket_of(1_000_000): 1, bucket_of(100_000): 1}
    line.clear()
    (state,) = events.cut(1_001_000, HEALTH)[-1].actions
    assert (state.waiting, state.ages) == (0, {})
