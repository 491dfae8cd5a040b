"""Benchmarks on spans: merged once, judged exactly, opened and resolved soon; by readings where no spans come."""

import random
from collections.abc import Callable
from datetime import timedelta

import pytest

from services.validator.judging import Judge
from services.validator.samples import Latencies, Second
from services.validator.spans import Clustered, SpanSeconds, measure_spans, spread_of
from shared.contracts.benchmarks import Benchmarks
from shared.contracts.breach import Breach
from shared.contracts.resource import ResourceSample
from shared.contracts.span_window import SpanCell, SpanWindows
from shared.contracts.window import Exemplar
from shared.histogram import Histogram
from tests.unit.validator_frames import START, START_S, at_us, desired, frame, state

RATE = 50
TELL_S = 0.5
LATE_S = 1.0
"""The exporter's batch and the collector's together."""


def told(seq: int, second: int, times_ms: list[float], collector: str = "c1") -> SpanWindows:
    times_us = [round(ms * 1e3) for ms in times_ms]
    worst = (Exemplar(trace_id=f"{seq:032x}", response_us=max(times_us), recorded=True),) if times_us else ()
    cell = SpanCell(
        span="relaycore.routing",
        second=START_S + second,
        count=len(times_us),
        times=Histogram.of(times_us).counts,
        sum_us=sum(times_us),
        worst=worst,
    )
    return SpanWindows(
        environment="test", system="autmatrix", service="autmatrix-backend", collector=collector, seq=seq, cells=(cell,)
    )


BENCHMARKS = Benchmarks.model_validate(
    {
        "systems": {
            "autmatrix": {
                "service": "autmatrix-backend",
                "name": "AutoMatrix",
                "benchmarks": [
                    {"metric": "routing_latency", "target": "50 ms", "critical": "100 ms", "window": "6s"}
                    | {"source": "span", "span": "relaycore.routing", "resource": "routing_latency"},
                ],
            }
        }
    }
)  # fmt: skip
(ROUTING,) = BENCHMARKS.systems["autmatrix"].benchmarks


def judge_of_a_run() -> Judge:
    judge = Judge("test", BENCHMARKS)
    judge.settle_joining()
    judge.board("run-of-tests").note_desired(desired())
    judge.board("run-of-tests").note_state(state(0))
    return judge


def play(
    judge: Judge,
    until_s: float,
    median_ms: Callable[[float], float | None],
    reading_ms: float | None = None,
    seed: int = 0,
) -> list[tuple[float, Breach]]:
    """Spans (lognormal, σ 0.5) told twice a second and a second late, readings once a second, judged each 0.25 s."""
    rng, events, seq = random.Random(seed), [], 0
    steps = round(until_s * 4)
    for step in range(1, steps + 1):
        now_s = step / 4
        judge.board("run-of-tests").merge(frame(step, now_s), at_us(now_s))
        if step % 2 == 0 and now_s > LATE_S:
            seq += 1
            ended_s = now_s - LATE_S - 0.01
            median = median_ms(ended_s)
            if median is not None:
                times = [median * rng.lognormvariate(0, 0.5) for _ in range(round(RATE * TELL_S))]
                judge.spans.merge(told(seq, int(ended_s), times))
        if reading_ms is not None and step % 4 == 0:
            judge.resources.add(
                ResourceSample(
                    service="autmatrix-backend",
                    system="autmatrix",
                    environment="test",
                    instance="1",
                    at=START + timedelta(seconds=now_s),
                    values={"routing_latency": reading_ms},
                )
            )
        events += [(now_s, breach) for breach in judge.tick(at_us(now_s))]
    return events


@pytest.mark.parametrize("seed", range(5))
def test_a_step_opens_within_seconds_and_its_end_resolves(seed: int) -> None:
    # p95 of the lognormal is 2.28 times its median: 27 ms, and 96 ms during the step.
    events = play(judge_of_a_run(), 60, lambda s: 42 if 20 <= s < 35 else 12, seed=seed)
    assert [breach.status for _, breach in events if breach.status not in ("updated", "escalated")] == [
        "opened", "resolved",
    ]  # fmt: skip
    when, opened = events[0]
    assert 20 + LATE_S < when < 20 + LATE_S + 3
    assert (opened.statistic, opened.limit, opened.unit) == ("p95", 50, "ms")
    assert opened.samples >= 59
    assert opened.exemplars[0].recorded
    assert 35 < events[-1][0] < 35 + LATE_S + 10


@pytest.mark.parametrize("seed", range(3))
def test_steady_load_near_the_target_never_opens(seed: int) -> None:
    assert not play(judge_of_a_run(), 600, lambda _: 0.95 * 50 / 2.28, seed=seed)


def test_where_no_spans_come_the_readings_are_judged() -> None:
    events = play(judge_of_a_run(), 40, lambda _: None, reading_ms=80.0)
    assert [(breach.statistic, breach.level) for _, breach in events[:1]] == [("mean", "target")]


def test_what_comes_in_clusters_counts_for_less() -> None:
    """Every fourth block of six seconds all beyond the limit, the others not at all: a quarter, and far from even."""
    history = [Second(Histogram.of([90_000.0 if at // 6 % 4 == 0 else 5_000.0] * 20)) for at in range(144)]
    spread = spread_of(history, 50_000, 6)
    assert spread == pytest.approx(120 * 24 / 23, rel=0.01) or spread == 50
    rng = random.Random(1)
    even = [Second(Histogram.of(90_000.0 if rng.random() < 0.25 else 5_000.0 for _ in range(20))) for _ in range(144)]
    assert spread_of(even, 50_000, 6) < 2
    assert spread_of(even[:40], 50_000, 6) == 1.0
    assert spread_of([Second(Histogram.of([5_000.0] * 20))] * 144, 50_000, 6) == 1.0
    clustered = Clustered(even, 4.0)
    assert clustered.count == 144 * 20 // 4
    assert clustered.counted(50_000).above == Latencies(even).counted(50_000).above // 4
    assert clustered.mean_and_variance_ms() == Latencies(even).mean_and_variance_ms()


def test_a_message_that_comes_again_counts_once_and_late_ones_count() -> None:
    spans = SpanSeconds()
    for windows in (told(1, 1, [5.0] * 4), told(2, 2, [5.0]), told(2, 2, [5.0]), told(1, 1, [5.0] * 4)):
        spans.merge(windows)
    spans.merge(told(1, 1, [5.0], collector="c2"))
    assert [spans.second("autmatrix", "relaycore.routing", START_S + s).count for s in (1, 2)] == [5, 1]


def test_the_window_reaches_back_where_spans_are_few() -> None:
    spans = SpanSeconds()
    for second in range(1, 41):
        spans.merge(told(second, second, [5.0] * 4))
    measured = measure_spans(ROUTING, spans, "autmatrix", START_S, at_us(41))
    assert measured is not None
    assert (measured.first_s, measured.last_s) == (START_S + 16, START_S + 40)
    assert measure_spans(ROUTING, spans, "autmatrix", START_S, at_us(60)) is None, "long past"
