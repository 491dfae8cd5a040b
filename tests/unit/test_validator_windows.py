"""Windows: merged once each whatever the order, event time that waits for every live worker and never recedes."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.validator.measuring import measure_requests
from services.validator.producer import SILENCE_US
from services.validator.samples import Completions, Latencies
from services.validator.sequence import Sequence
from services.validator.windows import Chosen, SystemWindows
from shared.contracts.benchmarks import Benchmark
from shared.contracts.sources import KEPT_S, LATE_S, LONGEST_WINDOW_S
from shared.contracts.timing import ErrorKind, Kind
from shared.contracts.window import FrameWindows
from tests.unit.validator_frames import START_S, at_us, cell, frame


def content(windows: SystemWindows) -> object:
    """All that a judgement can see."""
    return (
        windows.watermark_us,
        {second: dict(lines) for second, lines in windows.seconds.items() if lines},
        {
            key: (p.sequence.contiguous, p.sequence.missing, p.actions, p.sent, p.final)
            for key, p in windows.producers.items()
        },
        windows.at_fault(0, START_S + 1000),
    )


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[FrameWindows], list[FrameWindows]]:
    """Frames of up to three workers in order, and the same with redeliveries in any order."""
    frames = []
    for worker in range(draw(st.integers(1, 3))):
        for seq in range(1, draw(st.integers(1, 6)) + 1):
            times = draw(st.lists(st.floats(0.1, 5_000), max_size=4))
            frames.append(
                frame(
                    seq,
                    seq * 0.5,
                    [cell(seq // 2, times, trace=worker * 100 + seq)],
                    worker=f"w{worker}",
                    sent=seq * 3,
                    stuck_ms=times[:1],
                    at_fault=draw(st.booleans()),
                )
            )
    again = draw(st.lists(st.sampled_from(frames), max_size=10))
    return frames, draw(st.permutations(frames + again))


@settings(max_examples=60, deadline=None)
@given(deliveries())
def test_frames_in_any_order_and_delivered_again_give_the_same_windows(
    pair: tuple[list[FrameWindows], list[FrameWindows]],
) -> None:
    ordered, shuffled = SystemWindows(), SystemWindows()
    for one in pair[0]:
        ordered.merge(one, at_us(10))
    for one in pair[1]:
        shuffled.merge(one, at_us(10))
    # Only event time may differ: it does not wait for a worker that has not joined yet, and never recedes for it.
    assert content(shuffled)[1:] == content(ordered)[1:]  # type: ignore[index]
    assert shuffled.health.redelivered_frames == len(pair[1]) - len(pair[0])
    assert ordered.health.redelivered_frames == 0


@settings(max_examples=60, deadline=None)
@given(deliveries(), st.lists(st.integers(0, 4), min_size=40, max_size=40))
def test_event_time_never_recedes(pair: tuple[list[FrameWindows], list[FrameWindows]], pauses: list[int]) -> None:
    windows, now_us, last = SystemWindows(), at_us(0), 0
    for one, pause_s in zip(pair[1], pauses, strict=False):
        now_us += pause_s * 1_000_000
        windows.merge(one, now_us)
        windows.advance(now_us)
        assert (windows.watermark_us or 0) >= last
        last = windows.watermark_us or 0


def test_event_time_waits_for_the_slowest_live_worker() -> None:
    windows = SystemWindows()
    windows.merge(frame(1, 2.0, worker="fast"), at_us(2))
    windows.merge(frame(1, 2.0, worker="slow"), at_us(2))
    windows.merge(frame(2, 5.0, worker="fast"), at_us(5))
    assert windows.watermark_us == at_us(2)
    windows.merge(frame(2, 4.0, worker="slow"), at_us(5))
    assert windows.watermark_us == at_us(4)


def test_a_silent_worker_leaves_and_a_final_one_at_once() -> None:
    windows = SystemWindows()
    for worker in ("a", "b", "c"):
        windows.merge(frame(1, 1.0, worker=worker), at_us(1))
    windows.merge(frame(2, 2.0, worker="b", final=True), at_us(2))
    windows.merge(frame(2, 7.0, worker="c"), at_us(7))
    assert windows.watermark_us == at_us(1)
    windows.advance(at_us(1) + SILENCE_US + 1)
    assert windows.watermark_us == at_us(7)


def test_event_time_does_not_pass_a_gap_until_it_is_given_up() -> None:
    windows = SystemWindows()
    windows.merge(frame(1, 1.0), at_us(1))
    windows.merge(frame(3, 3.0), at_us(3))
    windows.advance(at_us(3))
    assert windows.watermark_us == at_us(1)
    # Its heartbeats go on; only the gap is old.
    windows.merge(frame(4, 9.0), at_us(9))
    windows.advance(at_us(3) + SILENCE_US + 1)
    assert windows.watermark_us == at_us(9)
    assert windows.health.frames_given_up == 1
    assert windows.merge(frame(2, 2.0, [cell(2, [5.0])]), at_us(10)), "late, but never seen"
    assert not windows.merge(frame(2, 2.0, [cell(2, [5.0])]), at_us(10)), "seen now"
    assert sum(windows.second(Chosen(Kind.REQUEST), START_S + s).count for s in range(10)) == 1


def test_a_redelivery_long_after_changes_only_the_count_of_duplicates() -> None:
    windows = SystemWindows()
    for seq in range(1, 400):
        windows.merge(frame(seq, seq, [cell(seq, [10.0])]), at_us(seq))
        windows.advance(at_us(seq))
    before = content(windows)
    assert not windows.merge(frame(1, 1, [cell(1, [10.0])]), at_us(399))
    assert content(windows) == before
    assert windows.duplicates == {("story", "create", Kind.REQUEST): 1}


def test_memory_holds_the_last_minutes_only() -> None:
    windows = SystemWindows()
    for seq in range(1, 1000):
        windows.merge(frame(seq, seq, [cell(seq, [10.0])], sent=seq, at_fault=seq % 10 == 0), at_us(seq))
        windows.advance(at_us(seq))
    (producer,) = windows.producers.values()
    assert len(windows.seconds) <= KEPT_S + 2
    assert all(len(by_second) <= KEPT_S + 3 for by_second in producer.sent.values())
    health = windows.whole_health()
    assert (health.seconds, health.seconds_at_fault) == (999, 99)


def test_the_longest_window_is_whole_also_where_it_is_judged_again_late() -> None:
    longest = {"metric": "a", "target": 1, "critical": 2, "source": "response_time", "min_samples": 59}
    benchmark = Benchmark.model_validate({**longest, "window": LONGEST_WINDOW_S, "max_window": LONGEST_WINDOW_S})
    windows = SystemWindows()
    for seq in range(1, 400):
        windows.merge(frame(seq, seq, [cell(seq, [10.0])]), at_us(seq))
        windows.advance(at_us(seq))
    for until_us in (None, at_us(399 - LATE_S)):
        measured = measure_requests(benchmark, windows, 0, at_us(399), until_us)
        assert measured is not None
        assert isinstance(measured.sample, Latencies)
        assert measured.sample.count == LONGEST_WINDOW_S


def test_a_reader_that_joins_mid_stream_takes_earlier_frames_as_seen() -> None:
    windows = SystemWindows(joined_late=True)
    assert windows.merge(frame(50, 50.0), at_us(50))
    assert windows.watermark_us == at_us(50)
    assert not windows.merge(frame(49, 49.0), at_us(50))
    windows.settle_joining()
    windows.merge(frame(3, 51.0, worker="new"), at_us(51))
    assert windows.producers["new", 1].sequence.gap


def test_what_is_stuck_is_of_the_latest_frame_of_live_workers() -> None:
    windows = SystemWindows()
    windows.merge(frame(2, 2.0, stuck_ms=[900.0, 1200.0]), at_us(2))
    windows.merge(frame(1, 1.0, stuck_ms=[100.0]), at_us(2))
    assert windows.stuck(Chosen(Kind.REQUEST), at_us(2)).total == 2
    assert windows.stuck(Chosen(Kind.REQUEST, ("other",)), at_us(2)).total == 0
    assert windows.stuck(Chosen(Kind.REQUEST), at_us(2) + SILENCE_US + 1).total == 0


def test_a_request_that_waited_too_long_counts_once_before_and_once_it_has_returned() -> None:
    windows, limit_us = SystemWindows(), 500_000
    windows.merge(frame(1, 1.0, [cell(0, [10.0] * 30)], stuck_ms=[700.0] * 20), at_us(1))
    windows.merge(frame(2, 2.0, stuck_ms=[1700.0] * 20), at_us(2))
    counted = []
    for seq in (2, 3):
        if seq == 3:
            windows.merge(frame(3, 3.0, [cell(2, [2500.0] * 20)]), at_us(3))
        stuck = windows.stuck(Chosen(Kind.REQUEST), at_us(3))
        seconds = [windows.second(Chosen(Kind.REQUEST), START_S + second) for second in range(4)]
        sample = Latencies(seconds, stuck).counted(limit_us)
        counted.append((sample.above, sample.count))
    assert counted == [(20, 50), (20, 50)]


def test_the_load_offered_counts_what_was_sent_or_had_nobody_to_send_it_and_what_waits_in_line() -> None:
    throughput = Benchmark(
        metric="throughput",
        target=100,
        critical=50,
        unit="requests/s",
        better="higher",
        source="throughput",
    )
    windows = SystemWindows()
    for seq in range(1, 22):
        waiting = 300 if seq == 21 else 0
        done = cell(seq - 1, [10.0] * 90, failed=10).model_copy(update={"errors": {int(ErrorKind.REFUSED): 10}})
        windows.merge(frame(seq, seq, [done], sent=90 * seq, waiting=waiting), at_us(seq))
    measured = measure_requests(throughput, windows, 0, at_us(21))
    assert measured is not None
    assert isinstance(measured.sample, Completions)
    assert (measured.sample.count, measured.sample.seconds) == (800, 10.0)
    assert measured.sample.offered_per_s == pytest.approx(90 + 30, abs=9.1)


def test_a_sequence_remembers_any_order() -> None:
    rng = random.Random(5)
    order = list(range(1, 200))
    rng.shuffle(order)
    sequence = Sequence()
    assert all(sequence.admit(seq, seq) for seq in order)
    assert not any(sequence.admit(seq, seq) for seq in order)
    assert (sequence.contiguous, sequence.watermark_us, sequence.gap) == (199, 199, False)
