"""Verdicts: exact tests decide, too little is never a pass, what was not asked for is never a breach."""

import random

import pytest

from services.validator.samples import Completions, Failures, Latencies, Readings, Sample, Second
from services.validator.significance import binomial, poisson, student
from services.validator.verdict import Verdict, judge, judge_both, judge_hang
from shared.contracts.benchmarks import Benchmark
from shared.histogram import Histogram, bucket_of


def response_time(**fields: object) -> Benchmark:
    base = {"metric": "api_response_time", "target": 200, "critical": 500, "unit": "ms", "better": "lower"}
    return Benchmark.model_validate({**base, "source": "response_time", **fields})


ERRORS = Benchmark.model_validate(
    {"metric": "error_rate", "target": 0.01, "critical": 0.05, "unit": "ratio", "better": "lower"}
    | {"source": "error_rate"}
)
THROUGHPUT = Benchmark.model_validate(
    {"metric": "throughput", "target": 100, "critical": 50, "unit": "requests/s", "better": "higher"}
    | {"source": "throughput"}
)
CPU = Benchmark.model_validate(
    {"metric": "cpu_usage", "target": 0.8, "critical": 0.95, "unit": "ratio", "better": "lower", "source": "resource"}
)
INFERENCES = Benchmark.model_validate(
    {"metric": "concurrent_inferences", "target": 50, "critical": 20, "unit": "requests in flight"}
    | {"better": "higher", "source": "resource"}
)


def times(*groups: tuple[int, float], stuck: tuple[tuple[int, float], ...] = ()) -> Latencies:
    """``(count, ms)`` of answers, and of requests still waiting at that age."""
    response, waiting, total_us = Histogram(), Histogram(), 0
    for count, ms in groups:
        response.merge({next(iter(Histogram.of([ms * 1e3]).counts)): count})
        total_us += round(count * ms * 1e3)
    for count, ms in stuck:
        waiting.merge({next(iter(Histogram.of([ms * 1e3]).counts)): count})
    return Latencies.of(response, total_us, waiting)


@pytest.mark.parametrize(
    ("benchmark", "sample", "verdict"),
    [
        pytest.param(response_time(), times((500, 100.0)), Verdict.MET, id="all well below the target"),
        pytest.param(response_time(), times((400, 100.0), (100, 250.0)), Verdict.MISSED, id="a fifth over the target"),
        pytest.param(response_time(), times((400, 100.0), (100, 800.0)), Verdict.CRITICAL, id="a fifth over critical"),
        pytest.param(response_time(), times((477, 100.0), (23, 300.0)), Verdict.INSUFFICIENT, id="too close to tell"),
        pytest.param(response_time(), times((199, 900.0)), Verdict.INSUFFICIENT, id="one sample too few to judge"),
        pytest.param(response_time(), times(), Verdict.INSUFFICIENT, id="no samples are no pass"),
        pytest.param(response_time(), times((499, 100.0), (1, 30_000.0)), Verdict.MET, id="a single slow request"),
        pytest.param(
            response_time(),
            times((400, 100.0), stuck=((60, 300.0),)),
            Verdict.MISSED,
            id="waiting beyond the target counts already",
        ),
        pytest.param(
            response_time(),
            times((400, 100.0), stuck=((60, 150.0),)),
            Verdict.MET,
            id="waiting within the target says nothing yet",
        ),
        pytest.param(response_time(statistic="mean"), times((300, 150.0), (30, 160.0)), Verdict.MET, id="mean below"),
        pytest.param(response_time(statistic="mean"), times((300, 250.0), (30, 260.0)), Verdict.MISSED, id="mean over"),
        pytest.param(ERRORS, Failures(1000, 1), Verdict.MET, id="one failure in a thousand"),
        pytest.param(ERRORS, Failures(1000, 10), Verdict.INSUFFICIENT, id="failures at the target"),
        pytest.param(ERRORS, Failures(1000, 30), Verdict.MISSED, id="failures thrice the target"),
        pytest.param(ERRORS, Failures(1000, 100), Verdict.CRITICAL, id="a tenth fails"),
        pytest.param(ERRORS, Failures(0, 0), Verdict.INSUFFICIENT, id="no requests fail no one"),
        pytest.param(THROUGHPUT, Completions(1200, 10, 120), Verdict.MET, id="more than the target"),
        pytest.param(THROUGHPUT, Completions(800, 10, 150), Verdict.MISSED, id="asked for more than came"),
        pytest.param(THROUGHPUT, Completions(300, 10, 150), Verdict.CRITICAL, id="asked for thrice what came"),
        pytest.param(THROUGHPUT, Completions(300, 10, 30), Verdict.INSUFFICIENT, id="little asked for, little done"),
        pytest.param(CPU, Readings((0.5, 0.52, 0.49, 0.51, 0.5)), Verdict.MET, id="half of the CPU"),
        pytest.param(CPU, Readings((0.85, 0.86, 0.85, 0.84, 0.85) * 3), Verdict.MISSED, id="CPU over the target"),
        pytest.param(CPU, Readings((0.99,) * 5), Verdict.CRITICAL, id="CPU at its limit and constant"),
        pytest.param(CPU, Readings((0.1,) * 9 + (60.0,)), Verdict.INSUFFICIENT, id="a single wild reading"),
        pytest.param(CPU, Readings((0.99,) * 4), Verdict.INSUFFICIENT, id="too few readings"),
        pytest.param(INFERENCES, Readings((5.0, 6.0, 5.0, 6.0, 5.0), 6.0), Verdict.INSUFFICIENT, id="few asked for"),
        pytest.param(INFERENCES, Readings((5.0, 6.0, 5.0, 6.0, 5.0), None), Verdict.INSUFFICIENT, id="demand unknown"),
        pytest.param(INFERENCES, Readings((5.0, 6.0, 5.0, 6.0, 5.0), 80.0), Verdict.CRITICAL, id="many asked for"),
        pytest.param(INFERENCES, Readings((60.0, 61.0, 60.0, 62.0, 60.0), 80.0), Verdict.MET, id="many carried"),
    ],
)
def test_a_sample_gets_its_verdict(benchmark: Benchmark, sample: Sample, verdict: Verdict) -> None:
    assert judge(benchmark, sample).verdict is verdict


def windows_of(long: Sample, short: Sample, benchmark: Benchmark | None = None) -> tuple[Verdict, bool]:
    judgement, newest = judge_both(benchmark or response_time(), long, [short], short_least=59, significance=1e-8)
    return judgement.verdict, bool(newest)


def seconds(*parts: tuple[int, int], ms: float = 300.0) -> Latencies:
    """(slow, all) of each second; the others take 100 ms."""
    made = []
    for slow, count in parts:
        histogram = Histogram()
        histogram.add(bucket_of(ms * 1e3), slow)
        histogram.add(bucket_of(100e3), count - slow)
        made.append(Second(histogram))
    return Latencies(made)


SLOW, GOOD = (20, 100), (4, 100)


@pytest.mark.parametrize(
    ("long", "short", "verdict", "newest"),
    [
        pytest.param([GOOD] * 8 + [SLOW] * 2, [GOOD, SLOW, SLOW], Verdict.MISSED, True, id="the short one reacts"),
        pytest.param([SLOW] * 10, [SLOW] * 3, Verdict.MISSED, False, id="both: the long one tells"),
        pytest.param([(11, 100)] * 10, [(11, 100)] * 3, Verdict.MISSED, False, id="the long one sees less"),
        pytest.param([SLOW] * 7 + [(1, 100)] * 3, [(1, 100)] * 3, Verdict.INSUFFICIENT, False, id="it is over"),
        pytest.param([GOOD] * 9 + [(100, 100)], [GOOD, GOOD, (100, 100)], Verdict.INSUFFICIENT, False, id="one second"),
        pytest.param([(1, 100)] * 10, [(1, 100)] * 3, Verdict.MET, False, id="kept"),
    ],
)
def test_a_long_and_a_short_window_decide_together(
    long: list[tuple[int, int]], short: list[tuple[int, int]], verdict: Verdict, newest: bool
) -> None:
    assert windows_of(seconds(*long), seconds(*short)) == (verdict, newest)


def test_a_level_that_lasts_no_longer_is_told_as_the_one_that_does() -> None:
    bad = [Second(part.response) for part in seconds(*[(60, 100)] * 9, ms=900).seconds]
    now = seconds(*[(60, 100)] * 3, ms=300)
    judgement, _ = judge_both(
        response_time(), Latencies([*bad, *now.seconds]), [now], short_least=59, significance=1e-8
    )
    assert (judgement.verdict, judgement.limit) == (Verdict.MISSED, 200)


def test_readings_that_exceed_in_the_newest_seconds_no_more_break_nothing() -> None:
    high = Readings(tuple(0.9 + 0.001 * (n % 3) for n in range(20)))
    assert windows_of(high, Readings((0.9, 0.9, 0.9)), CPU) == (Verdict.MISSED, False)
    assert windows_of(high, Readings((0.7, 0.7, 0.7)), CPU) == (Verdict.INSUFFICIENT, False)
    assert windows_of(Readings((0.5,) * 12 + (9.0,)), Readings((0.5, 0.5, 9.0)), CPU)[0] is not Verdict.MISSED


def test_a_judgement_tells_value_limit_samples_test_and_confidence() -> None:
    judgement = judge(response_time(), times((400, 100.0), (100, 250.0)))
    assert judgement.value == pytest.approx(250, rel=0.01)
    assert (judgement.limit, judgement.samples, judgement.test) == (200, 500, "binomial")
    assert judgement.confidence > 1 - 1e-4


def test_a_hang_is_seen_although_the_window_is_full_of_good_answers() -> None:
    hanging = ((20, 900.0),)
    assert judge(response_time(), times((500, 50.0), stuck=hanging)).verdict is not Verdict.CRITICAL
    judgement = judge_hang(response_time(), times((10, 50.0), stuck=hanging))
    assert judgement is not None
    assert judgement.verdict is Verdict.CRITICAL
    assert "20 requests unanswered" in judgement.note


@pytest.mark.parametrize("stuck", [((1, 30_000.0),), ((4, 30_000.0),), ((50, 400.0),)])
def test_few_or_young_waiting_requests_are_no_hang(stuck: tuple[tuple[int, float], ...]) -> None:
    assert judge_hang(response_time(), times((10, 50.0), stuck=stuck)) is None


def test_the_binomial_is_exact_at_its_ends() -> None:
    assert binomial(0, 10, 0.05).worse == 1.0
    assert binomial(10, 10, 0.5).worse == pytest.approx(0.5**10)
    assert binomial(0, 59, 0.05).better <= 0.05 < binomial(0, 58, 0.05).better
    assert binomial(0, 0, 0.05).worse == 1.0


def test_the_other_tests_agree_with_known_values() -> None:
    assert poisson(0, 3.0).worse == pytest.approx(0.049787, rel=1e-4)
    assert poisson(0, 3.0).better == 1.0
    # Tables: t of 10 degrees of freedom is 1.812 at 5 %, 4.144 at 0.1 %.
    assert student(10 + 1.812 * (4 / 11) ** 0.5, 4.0, 11, 10.0).worse == pytest.approx(0.05, rel=0.01)
    assert student(10 - 4.144 * (4 / 11) ** 0.5, 4.0, 11, 10.0).better == pytest.approx(0.001, rel=0.01)
    assert student(5.0, 0.0, 3, 10.0).better == 0.0
    assert student(99.0, 1.0, 1, 10.0).worse == 1.0


def test_a_steady_load_just_within_its_target_rarely_breaks_it() -> None:
    rng = random.Random(11)
    benchmark, broken = response_time(), 0
    for _ in range(300):
        over = sum(rng.random() < 0.045 for _ in range(200))
        broken += judge(benchmark, times((200 - over, 100.0), (over, 300.0))).broken
    assert broken <= 1
