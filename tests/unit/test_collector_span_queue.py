"""The door's queue: everything below its mark, whole traces above it, the slow and the failed ones first."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.collector.span_queue import ERROR, QueueFullError, SpanQueue
from shared.store.spans import SpanRow

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def trace(
    number: int, ms: float = 10.0, *, spans: int = 3, failed: bool = False, name: str = "POST /x"
) -> list[SpanRow]:
    """So many spans of one trace; the first is the longest, the last one failed where it did."""
    return [
        SpanRow(
            at=NOW,
            trace_id=UUID(int=number),
            span_id=index.to_bytes(8, "big"),
            parent_span_id=None,
            service="relaycore",
            name=f"{name} {index}",
            kind=2,
            duration_us=round(ms * 1e3 / (index + 1)),
            status=ERROR if failed and index == spans - 1 else 0,
        )
        for index in range(spans)
    ]


def numbers(rows: Iterable[SpanRow]) -> list[int]:
    return sorted({row.trace_id.int for row in rows})


def test_below_its_mark_the_queue_keeps_everything_in_the_order_it_came() -> None:
    queue = SpanQueue(100, 50)
    for number in (3, 1, 2):
        assert queue.offer(trace(number)).spans == 0
    assert [row.trace_id.int for row in queue.take(6, 0)] == [3, 3, 3, 1, 1, 1]
    assert len(queue) == 9, "those in hand are counted"
    queue.done()
    assert (len(queue), numbers(queue.take(100, 0))) == (3, [2])


def test_above_its_mark_quick_traces_go_and_slow_and_failed_ones_stay() -> None:
    queue = SpanQueue(100, 50)
    quick = [row for number in range(1, 11) for row in trace(number)]
    slow = [row for number in range(11, 14) for row in trace(number, 80.0)]
    failed = [row for number in range(14, 17) for row in trace(number, 5.0, failed=True)]
    queue.offer([*quick, *slow])
    given_up = queue.offer(failed)
    assert (given_up.spans, given_up.of_these) == (0, 0)
    given_up = queue.offer([row for number in range(17, 20) for row in trace(number, 9.0)])
    assert (given_up.spans, given_up.of_these) == (12, 9), "those that just came were the quickest"
    kept = numbers(queue.take(100, 0))
    assert {*range(11, 17)} <= {*kept}
    assert len(kept) == 15


def test_slow_is_what_is_slow_for_its_kind() -> None:
    queue = SpanQueue(100, 50)
    for number in range(1, 15):
        queue.offer([*trace(number, 3_000, name="workflow"), *trace(100 + number, 5, name="look")])
        queue.take(100, 0)
        queue.done()
    for number in range(20, 28):
        queue.offer(trace(number, 3_000, name="workflow"))
    for number in range(30, 38):
        queue.offer(trace(number, 500 if number == 30 else 5, name="look"))
    queue.offer(trace(40, 9_000, name="workflow"))
    assert {30, 40} <= {*numbers(queue.take(100, 0))}


def test_a_trace_stays_whole_when_a_part_of_it_is_stored() -> None:
    queue = SpanQueue(100, 30)
    queue.offer(trace(1))
    assert numbers(queue.take(100, 0)) == [1]
    queue.done()
    queue.offer([row for number in range(2, 14) for row in trace(number, 900.0)])
    queue.offer(trace(1, 1.0))
    assert 1 in numbers(queue.take(100, 0))


def test_what_was_given_up_stays_so_unless_it_turns_out_to_have_failed() -> None:
    queue = SpanQueue(100, 30)
    queue.offer([row for number in range(2, 12) for row in trace(number, 900.0)])
    assert queue.offer(trace(1, 1.0)).of_these == 3
    assert queue.offer(trace(1, 1.0)).of_these == 3
    assert queue.offer(trace(1, 1.0, failed=True)).of_these == 0
    assert queue.offer(trace(1, 1.0)).of_these == 0
    assert 1 in numbers(queue.take(100, 0))


@pytest.mark.parametrize("mark", [50, 100])
def test_when_all_must_be_kept_a_full_queue_takes_nothing_more(mark: int) -> None:
    queue = SpanQueue(100, mark)
    queue.offer([row for number in range(33) for row in trace(number, failed=True)])
    with pytest.raises(QueueFullError, match="99 spans wait"):
        queue.offer(trace(50, failed=True))
    assert len(queue) == 99
    queue.take(100, 0)
    with pytest.raises(QueueFullError):
        queue.offer(trace(50, failed=True))
    queue.done()
    assert queue.offer(trace(50, failed=True)).spans == 0


def test_an_export_larger_than_the_queue_is_taken_by_an_empty_one() -> None:
    queue = SpanQueue(10, 5)
    assert queue.offer(trace(1, spans=40)).spans == 0
    assert len(queue.take(10, 0)) == 40


def test_a_budget_is_kept_and_spent_on_what_failed_or_was_slow_first() -> None:
    queue = SpanQueue(1_000, 500, per_second=30.0)
    queue.offer([row for number in range(1, 41) for row in trace(number, 10.0)])
    queue.offer([*trace(50, failed=True), *trace(51, 500.0)])
    assert {50, 51} <= {*numbers(first := queue.take(100, now_s=10.0))}
    assert len(first) == 30
    queue.done()
    assert queue.take(100, now_s=10.0) == []
    taken = 0
    for tick in range(1, 41):
        taken += len(queue.take(100, now_s=10.0 + tick / 20))
        queue.done()
    assert 60 <= taken <= 63
    assert len(queue.take(100, 12.0, hurry=True)) == len(queue) == 126 - 30 - taken


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 9), st.floats(1, 99), st.booleans()), max_size=60),
    st.sampled_from([10, 20, 40]),
    st.randoms(),
)
def test_every_span_is_taken_given_up_or_waits_and_the_bound_holds(
    offers: list[tuple[int, int, float, bool]], mark: int, when: random.Random
) -> None:
    queue, came, left = SpanQueue(40, mark), 0, 0
    for number, spans, ms, failed in offers:
        before = len(queue)
        try:
            left += queue.offer(trace(number, ms, spans=spans, failed=failed)).spans
        except QueueFullError:
            assert len(queue) == before
            continue
        came += spans
        assert len(queue) <= 40
        if when.random() < 0.3:
            left += len(queue.take(10, 0.0))
            queue.done()
    assert came == left + len(queue)
