"""What a whole run shows: its good and its bad part, how hops changed between them, knees, leaks, tired generators."""

import random
from datetime import timedelta
from typing import Any

import pytest

from services.validator.board import UsersAt
from services.validator.comparison import Compared, compare, judge_gates
from services.validator.course import Course, follow
from services.validator.facts import Facts, Observed
from services.validator.generator_course import MOST_POINTS, GeneratorAt, GeneratorCourse
from services.validator.growth import find_growth, rising_p
from services.validator.health import GeneratorHealth
from services.validator.hop_change import LEAST_CALLS, compare_hops, part_calls
from services.validator.hop_table import ScenarioHops
from services.validator.report import build_report
from services.validator.report_advice import list_recommendations
from services.validator.run_rules import generator_at_fault, generator_near_limit, memory_growing, throughput_plateau
from services.validator.verdict import Verdict
from shared.config import load_document
from shared.contracts.benchmarks import Benchmarks
from shared.contracts.timing import ErrorKind, Kind
from shared.histogram import Histogram
from shared.settings import PROJECT_ROOT
from shared.store.figures import InstanceReading, SeriesAfter, SeriesResult, Times
from tests.unit.advice_cases import benchmark, facts, reading, step, traced
from tests.unit.validator_frames import START_S, frame

BENCHMARKS = load_document(Benchmarks, PROJECT_ROOT / "config" / "benchmarks.yaml")
THREE = {"systems": {"autmatrix": "create", "relaycore": "ask", "neuroweaver": "infer"}}


def slow_then_fast(**fields: Any) -> Facts:
    """RelayCore routes in 300 ms for 30 s, then in 30; its line makes every workflow slow meanwhile."""
    rng = random.Random(1)
    readings = [reading(second, (300 if second < 30 else 30) + rng.uniform(-9, 9)) for second in range(60)]
    readings += [reading(second, 9.0 if second < 30 else 0.2, "queue_length") for second in range(60)]
    calls = [traced(n, n * 0.5, 400 if n * 0.5 < 29 else 20) for n in range(118)]
    return facts(resources=tuple(readings), hops=(ScenarioHops("story", tuple(calls)),), scenario=THREE, **fields)


def broken(of: Facts) -> list[Compared]:
    return [item for item in compare(BENCHMARKS, of) if item.judgement.broken]


def test_the_course_tells_the_steps_that_kept_a_benchmark_from_those_that_broke_it() -> None:
    course = follow(slow_then_fast(), "relaycore", benchmark("resource"))
    assert course.broken == set(range(START_S, START_S + 30))
    assert course.kept == set(range(START_S + 30, START_S + 60))
    of_requests = facts(
        timeline=(step(0), step(1, ms=900), step(2, system="relaycore", ms=900), step(3, kind=1, ms=900))
    )
    course = follow(of_requests, "autmatrix", benchmark())
    assert (set(course.kept), set(course.broken)) == ({START_S}, {START_S + 1})
    rates = facts(timeline=(step(0, count=120, failed=3), step(1, count=80)))
    assert follow(rates, "autmatrix", benchmark("throughput")).broken == {START_S + 1}
    assert follow(rates, "autmatrix", benchmark("error_rate")).broken == {START_S}


def test_what_ended_before_ramp_up_or_after_the_run_is_in_neither_part() -> None:
    course = follow(facts(10, timeline=(step(-5), step(3), step(12, ms=900))), "autmatrix", benchmark())
    assert (set(course.kept), set(course.broken)) == ({START_S + 3}, set())


def test_a_stretch_of_time_is_as_broken_as_the_steps_it_touches() -> None:
    course = Course(10, frozenset({0, 10}), frozenset({20, 30}))
    assert course.share_broken(1_000_000, 19_000_000) == 0
    assert course.share_broken(15_000_000, 25_000_000) == 0.5
    assert course.share_broken(21_000_000, 39_000_000) == 1
    assert course.share_broken(90_000_000, 99_000_000) is None


def test_hops_are_compared_between_both_parts_and_only_of_enough_drawn_calls() -> None:
    course = Course(1, frozenset(range(START_S, START_S + 30)), frozenset(range(START_S + 30, START_S + 60)))
    fast = [traced(n, n, 20) for n in range(20)]
    slow = [traced(100 + n, 32 + n, 300) for n in range(20)]
    extreme = traced(999, 40, 9_000, drawn=False)
    kept, bad = part_calls([*fast, *slow, extreme], course)
    assert (len(kept), len(bad)) == (20, 20)
    first, *others = compare_hops(kept, bad)
    assert (str(first.hop), first.kept_p95_ms, first.broken_p95_ms) == ("relaycore", 45, 325)
    assert first.path_rise_ms == pytest.approx(280)
    assert all(abs(other.path_rise_ms) < 1 for other in others if other.hop.service == "neuroweaver-backend")
    assert compare_hops(kept[: LEAST_CALLS - 1], bad) == []


def test_advice_on_a_run_compares_its_bad_part_with_its_good_one() -> None:
    (item,) = broken(slow_then_fast())
    assert (item.benchmark.metric, item.advice[0].rule) == ("routing_latency", "own_time_rose")
    assert "RelayCore's own time rose from 45 to 425 ms at p95 while NeuroWeaver's stayed" in item.advice[0].text
    (queue,) = [advice for advice in item.advice if advice.rule == "queue_builds"]
    assert queue.figures == {"queue_length": 9.0, "queue_length_while_kept": 0.2}


def test_replicas_that_came_while_it_ran_are_not_compared_with_those_that_saw_it_all() -> None:
    def told(instance: str, ms: float, seconds: int) -> InstanceReading:
        return InstanceReading("relaycore", "relaycore", instance, "routing_latency", ms, seconds)

    old = (told("r-1", 300, 60), told("r-2", 310, 60))
    (item,) = broken(slow_then_fast(instances=(*old, told("r-3", 30, 45))))
    assert "one_bad_replica" not in {advice.rule for advice in item.advice}
    (item,) = broken(slow_then_fast(instances=(told("r-1", 30, 60), told("r-2", 310, 60), told("r-3", 31, 58))))
    assert item.advice[0].rule == "one_bad_replica"


def series(action: str = "create", **changes: Any) -> SeriesResult:
    whole = SeriesResult(1, "autmatrix", "story", action, Kind.REQUEST, 400, 0, 400, 0, 0, {}, Times(), Times())
    return SeriesResult(**{**{name: getattr(whole, name) for name in whole.__slots__}, **changes})


def test_timeouts_are_traced_to_the_limit_of_the_step_they_lie_at() -> None:
    times = Times(900.0, 30_010.0, {"p95": 30_000.0})
    failing = series(failed=40, errors={ErrorKind.TIMEOUT: 40}, service=times, response=times)
    after = {1: SeriesAfter(Histogram.of([50_000] * 360 + [30_000_000] * 40).counts, 10**9, 40)}
    found = {item.benchmark.metric: item.advice[0] for item in broken(facts(series=(failing,), after=after))}
    assert found["error_rate"].rule == found["api_response_time"].rule == "timed_out_at_limit"
    assert found["error_rate"].figures == {"action": "create", "requests": 40, "limit": "timeout", "limit_s": 30.0}


def test_a_hang_until_the_end_of_a_run_is_seen_although_nothing_of_it_was_answered() -> None:
    good = Histogram.of([40_000] * 300).counts
    hung = Histogram.of([20_000_000] * 40).counts
    (item,) = broken(facts(series=(series(),), after={1: SeriesAfter(good, 12_000_000, 0, hung)}))
    assert item.judgement.verdict is Verdict.CRITICAL
    short = Histogram.of([30_000] * 40).counts
    assert broken(facts(series=(series(),), after={1: SeriesAfter(good, 12_000_000, 0, short)})) == []


GATES = [
    pytest.param({"metric": "error_rate", "statistic": "rate", "limit": 0.02, "unit": "ratio"}, 49, 50, id="2 % of 50"),
    pytest.param({"metric": "response_time", "limit": 100, "unit": "ms"}, 19, 20, id="p95 of 20"),
    pytest.param({"metric": "response_time", "statistic": "p99", "limit": 100, "unit": "ms"}, 99, 100, id="p99 of 100"),
    pytest.param({"metric": "response_time", "statistic": "mean", "limit": 100, "unit": "ms"}, 1, 2, id="mean of 2"),
]


def judge_gate(gate: dict[str, Any], **after: Any) -> tuple[Verdict, float | None, str]:
    of = facts(series=(series(),), after={1: SeriesAfter(**after)}, scenario={"targets": [gate]})
    (result,) = judge_gates(BENCHMARKS, of)
    return result.verdict, result.actual, result.note


@pytest.mark.parametrize(("gate", "too_few", "enough"), GATES)
def test_too_few_samples_are_never_a_pass_of_a_gate(gate: dict[str, Any], too_few: int, enough: int) -> None:
    def judged(count: int) -> Verdict:
        return judge_gate(gate, response=Histogram.of([50_000] * count).counts, sum_us=50_000 * count, failed=0)[0]

    assert judged(0) is Verdict.INSUFFICIENT
    assert judged(too_few) is Verdict.INSUFFICIENT
    assert judged(enough) is Verdict.MET


def test_a_gate_is_missed_by_its_value_however_few_there_are() -> None:
    gate = {"metric": "error_rate", "statistic": "rate", "limit": 0.02, "unit": "ratio"}
    assert judge_gate(gate, response=Histogram.of([9]).counts, sum_us=9, failed=1)[0] is Verdict.MISSED


def test_what_the_end_cut_off_beyond_a_gates_limit_counts_against_it() -> None:
    gate = {"metric": "response_time", "statistic": "mean", "limit": 100, "unit": "ms"}
    good = {"response": Histogram.of([50_000] * 10).counts, "sum_us": 500_000, "failed": 0}
    assert judge_gate(gate, **good, cancelled=Histogram.of([90_000] * 10).counts)[0] is Verdict.MET
    verdict, actual, _ = judge_gate(gate, **good, cancelled=Histogram.of([400_000] * 10).counts)
    assert verdict is Verdict.MISSED
    assert actual == pytest.approx(225, rel=0.01)


def test_a_missed_gate_has_advice_of_the_system_that_failed() -> None:
    gate = {"metric": "error_rate", "statistic": "rate", "limit": 0.02, "unit": "ratio"}
    failing = series(failed=40, errors={ErrorKind.RESET: 40})
    after = {1: SeriesAfter(Histogram.of([50_000] * 400).counts, 20_000_000, 40)}
    of = facts(series=(failing,), after=after, scenario={"targets": [gate]})
    (result,) = judge_gates(BENCHMARKS, of)
    assert result.advice[0].rule == "errors_of_one_kind"
    details = list_recommendations(BENCHMARKS, of, (), [result])
    assert [(one["scenario"], one["metric"], one["rule"]) for one in details] == [
        ("story", "error_rate", "errors_of_one_kind")
    ]


def climbing(rate_of: Any, users_of: Any = lambda second: second) -> Facts:
    users = tuple(UsersAt(START_S + second, users_of(second), 0) for second in range(100))
    timeline = tuple(step(second, count=round(rate_of(users_of(second)))) for second in range(100))
    return facts(100, timeline=timeline, observed=Observed(users=users))


def test_the_knee_is_where_more_users_bring_no_more_throughput() -> None:
    rng = random.Random(3)
    advice = throughput_plateau(climbing(lambda users: min(2 * users, 84) * rng.uniform(0.97, 1.03)))
    assert advice
    assert 35 <= advice.figures["knee_users"] <= 50
    assert advice.figures["requests_per_s"] == pytest.approx(84, rel=0.05)
    assert advice.figures["per_user"] < 0.6 * advice.figures["per_user_at_knee"]


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(climbing(lambda users: 2 * users), id="grows as its users do"),
        pytest.param(climbing(lambda users: 84, lambda _: 40), id="steady users"),
        pytest.param(facts(), id="nothing"),
        pytest.param(climbing(lambda users: 60 + users), id="falls off slowly"),
    ],
)
def test_without_a_plateau_there_is_no_knee(of: Facts) -> None:
    assert throughput_plateau(of) is None


def memory(of: Any, *, load: Any = lambda _: 100) -> Facts:
    readings = tuple(reading(second, of(second), "memory_usage") for second in range(600))
    return facts(600, resources=readings, timeline=tuple(step(second, count=load(second)) for second in range(600)))


def test_memory_that_grows_under_even_load_is_told_before_it_breaks_a_limit() -> None:
    rng = random.Random(4)
    ((system, advice),) = memory_growing(BENCHMARKS, memory(lambda second: 500 + second / 2 + rng.uniform(0, 40)))
    assert system == "relaycore"
    assert advice.figures["mb_per_hour"] == pytest.approx(1_800, rel=0.1)
    assert advice.figures["hours_to_limit"] == pytest.approx((4_096 - 800) / 1_800, rel=0.1)


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(memory(lambda second: 500 + 40 * (second % 60)), id="given back each minute"),
        pytest.param(memory(lambda second: 500 + second / 2, load=lambda second: 100 + second), id="as the load grows"),
        pytest.param(memory(lambda second: 500 + second / 1_000), id="far from any limit"),
        pytest.param(memory(lambda _: 500.0), id="constant"),
    ],
)
def test_memory_that_does_not_leak_is_not_called_a_leak(of: Facts) -> None:
    assert list(memory_growing(BENCHMARKS, of)) == []


def test_noise_is_seldom_called_growth() -> None:
    rng = random.Random(5)
    found = [find_growth([(float(t), rng.gauss(500, 20)) for t in range(240)]) is not None for _ in range(500)]
    assert sum(found) <= 15, "one in a hundred, with room for chance"


def test_mann_kendall_agrees_with_its_tables() -> None:
    # Kendall's exact one-sided probabilities for n = 10: 1/10! for S = 45, 0.108 for S = 15.
    assert rising_p(range(10)) < 1e-4
    assert rising_p([1, 2, 3, 4, 10, 9, 8, 7, 6, 5]) == pytest.approx(0.108, abs=0.01)
    assert rising_p([3.0] * 10) == rising_p(range(10, 0, -1)) == 1


def health(**fields: Any) -> dict[str, GeneratorHealth]:
    return {"autmatrix": GeneratorHealth(**fields)}


def test_a_generator_at_its_limit_is_told_apart_from_one_beyond_it() -> None:
    beyond = facts(observed=Observed(health=health(seconds=60, seconds_at_fault=9, loop_lag_us=400_000)))
    advice = generator_at_fault(beyond)
    assert advice
    assert "for 9 of 60 s the generator itself was late (loop 400 ms" in advice.text
    assert generator_near_limit(beyond) is None
    busy = tuple(GeneratorAt(START_S + second, 2.0, 3.0, 0.93, 0) for second in range(60))
    near = facts(observed=Observed(health=health(seconds=60, loop_lag_us=9_000), generator=busy))
    advice = generator_near_limit(near)
    assert advice
    assert advice.figures == {"cpu_p50": 0.93, "loop_lag_p95_ms": 2.0}
    assert generator_at_fault(near) is None
    once = tuple(GeneratorAt(START_S + second, 300.0 if second == 9 else 2.0, 3.0, 0.2, 0) for second in range(60))
    calm = facts(observed=Observed(health=health(seconds=60, loop_lag_us=300_000), generator=once))
    assert generator_at_fault(calm) is generator_near_limit(calm) is None


def test_the_generators_course_is_bounded_and_keeps_the_worst_of_each_step() -> None:
    course = GeneratorCourse()
    for second in range(5_000):
        told = frame(1, second, loop_lag_us=90_000 if second == 4_321 else 1_000, cpu_permille=400)
        course.note(told)
        course.note(told)
    points = course.points()
    assert len(points) <= MOST_POINTS
    (worst,) = [point for point in points if point.loop_lag_ms == 90]
    assert worst.second <= START_S + 4_321 < worst.second + 16
    assert {point.cpu for point in points} == {0.4}


def test_a_report_has_every_section_and_each_test_its_figures() -> None:
    counts = Histogram.of([40_000] * 380 + [400_000] * 20).counts
    one = series(
        failed=4, service_histogram=counts, response_histogram=counts, response=Times(58.0, 400.0, {"p95": 40.0})
    )
    body = build_report(BENCHMARKS, slow_then_fast(series=(one,), after={1: SeriesAfter(counts, 23_200_000, 4)}))
    (test,) = body["tests"]
    times = (test[f"{name}_response_time_ms"] for name in ("average", "p95", "p99"))
    assert list(times) == pytest.approx([58, 40, 400], rel=0.01)
    assert (test["total_requests"], test["successful_requests"], test["failed_requests"]) == (400, 396, 4)
    assert (test["throughput"], test["error_rate"], test["verdict"]) == (pytest.approx(400 / 60), 0.01, None)
    assert test["ended_at"] == (slow_then_fast().span.started + timedelta(seconds=60)).isoformat()
    (line,) = body["distributions"]
    assert (line["of"], line["name"], line["count"]) == ("requests", "autmatrix", 400)
    qs = [q for q, _, _ in line["points"]]
    assert qs == sorted(qs)
    assert qs[-1] == pytest.approx(1 - 0.5 / 400)
    assert [value for q, value, _ in line["points"] if q < 0.9][-1] == pytest.approx(40, rel=0.01)
    assert line["points"][-1][2] == pytest.approx(400, rel=0.01)
    assert [detail["text"] for detail in body["recommendation_details"]] == body["recommendations"]
    parts = body["hops"][0]["parts"]
    assert (parts["metric"], parts["broken"]["traces"] + parts["kept"]["traces"]) == ("routing_latency", 118)
    assert parts["broken"]["path_ms"]["relaycore"] - parts["kept"]["path_ms"]["relaycore"] == pytest.approx(380, abs=20)
    slow = body["slowest_traces"]
    assert [call["duration_ms"] for call in slow] == [800, 800, 800]
    spans = slow[0]["spans"]
    assert (spans[0]["depth"], spans[0]["service"], len(spans)) == (0, "tidegate-generator", 13)
    assert [span["name"] for span in spans if span["depth"] == 1] == ["execute", "poll 1", "poll 2"]
