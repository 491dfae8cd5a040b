"""Named spans counted once each, by the second of their end, whatever the order in which they are exported."""

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.collector.span_tally import Named, SpanTally, named_in
from shared.contracts.benchmarks_file import load_benchmarks
from shared.contracts.span_window import SpanWindows
from shared.histogram import Histogram
from shared.settings import PROJECT_ROOT
from shared.store.spans import SpanRow

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
START_S = int(START.timestamp())
NOW_S = START_S + 3.0
WANTED = {Named("relaycore", "route"): "relaycore", Named("shop-backend", "pay"): "shop"}


def row(
    number: int, ends_s: float, ms: float, *, service: str = "relaycore", name: str = "route", status: int = 0
) -> SpanRow:
    return SpanRow(
        at=START + timedelta(seconds=ends_s, milliseconds=-ms),
        trace_id=UUID(int=number),
        span_id=number.to_bytes(8, "big"),
        parent_span_id=None,
        service=service,
        name=name,
        kind=1,
        duration_us=round(ms * 1e3),
        status=status,
    )


def take(tally: SpanTally, seq: int = 1) -> list[SpanWindows]:
    return tally.take("test", "c1", seq)


def test_only_named_spans_count_each_in_the_second_of_its_end() -> None:
    tally = SpanTally(WANTED)
    tally.add([row(1, 0.9, 200), row(2, 1.1, 200, status=2), row(3, 1.2, 5), row(4, 1.2, 5, name="other")], NOW_S)
    tally.add([row(5, 1.5, 7, service="shop-backend", name="pay"), row(6, 1.5, 7, name="pay")], NOW_S)
    relaycore, shop = take(tally, 7)
    assert [(one.system, one.service, one.seq) for one in (relaycore, shop)] == [
        ("relaycore", "relaycore", 7), ("shop", "shop-backend", 8),
    ]  # fmt: skip
    first, second = relaycore.cells
    assert (first.second, first.count, first.sum_us) == (START_S, 1, 200_000)
    assert (second.second, second.count, second.failed, second.sum_us) == (START_S + 1, 2, 1, 205_000)
    assert second.times == Histogram.of([200_000, 5_000]).counts
    assert [one.response_us for one in second.worst] == [200_000, 5_000]
    assert not take(tally), "told once"


def test_what_is_exported_again_counts_once_also_after_it_was_told() -> None:
    tally = SpanTally(WANTED)
    tally.add([row(1, 1, 5), row(1, 1, 5)], NOW_S)
    assert [cell.count for one in take(tally) for cell in one.cells] == [1]
    tally.add([row(1, 1, 5), row(2, 1, 5)], NOW_S)
    assert [cell.count for one in take(tally) for cell in one.cells] == [1]


def test_a_clock_that_is_ahead_or_an_end_that_is_nonsense_ends_the_time_of_no_other() -> None:
    tally = SpanTally(WANTED)
    tally.add([row(1, 3, 5), row(2, 5, 5), row(3, 60, 5), row(4, 1e9, 1e12)], NOW_S)
    assert [cell.second - START_S for one in take(tally) for cell in one.cells] == [3, 5]


def test_the_order_of_spans_changes_nothing() -> None:
    rng = random.Random(1)
    rows = [row(number, rng.uniform(0, 3), rng.lognormvariate(3, 1)) for number in range(1, 300)]
    one, other = SpanTally(WANTED), SpanTally(WANTED)
    one.add(rows, NOW_S)
    rng.shuffle(rows)
    other.add(rows, NOW_S)
    assert take(one) == take(other)


def test_the_shipped_benchmarks_name_spans_of_relaycore() -> None:
    shipped = load_benchmarks(PROJECT_ROOT / "config" / "benchmarks.yaml", "local").benchmarks
    assert named_in(shipped) == {
        Named("relaycore", "relaycore.routing"): "relaycore",
        Named("relaycore", "relaycore.cost_optimization"): "relaycore",
    }
