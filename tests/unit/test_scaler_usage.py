"""Usage, slack, calls, efficiency: small tables whose sums are known."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.scaler.resources.calls import summarize_calls
from services.scaler.resources.consumption import Span, measure_days, measure_span
from services.scaler.resources.efficiency import Efficiency, find_trends
from services.scaler.resources.findings import Observed, PastRun, find
from services.scaler.resources.usage import percentile, summarize_services, summarize_whole
from services.scaler.situation import Sizes
from shared.contracts.prices import Prices
from shared.histogram import bucket_of
from shared.store.figures import CallTimes, Served, UsageDay, UsageStep

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
STEP = timedelta(seconds=10)
PRICES = Prices(core_hour=0.36, gb_hour=0.036)


def steps(
    values: Mapping[str, list[float]], *, instance: str = "relaycore-1", service: str = "relaycore"
) -> list[UsageStep]:
    """One instance's means, step by step; the most within each is a tenth above."""
    return [
        UsageStep(service, service, instance, metric, at, 10, mean, mean * 1.1, at + STEP / 2, mean)
        for metric, told in values.items()
        for number, mean in enumerate(told)
        for at in (BEGIN + number * STEP,)
    ]


def test_a_service_is_summed_over_its_replicas_and_judged_by_each() -> None:
    both = [*steps({"cpu_cores": [1.0, 3.0]}), *steps({"cpu_cores": [2.0]}, instance="relaycore-2")]
    (usage,) = summarize_services(both)
    of_replica, whole = usage.replica["cpu_cores"], usage.whole["cpu_cores"]
    assert (usage.replicas, of_replica.mean, of_replica.p95, of_replica.samples) == (1.5, 2.0, 3.0, 30)
    assert of_replica.peak == pytest.approx(3.3)
    assert of_replica.peak_at == BEGIN + STEP * 1.5
    assert (whole.mean, whole.peak, whole.peak_at, whole.last) == (3.0, 3.0, BEGIN, 3.0)


def test_all_services_are_summed_step_by_step() -> None:
    whole = summarize_whole(
        [*steps({"memory_usage": [100.0, 200.0]}), *steps({"memory_usage": [5.0]}, service="other")]
    )
    assert (whole["memory_usage"].mean, whole["memory_usage"].peak) == (152.5, 200.0)


def test_limits_are_told_by_amounts_and_their_ratios() -> None:
    told = steps({"cpu_cores": [0.5, 1.0], "cpu_usage": [0.25, 0.5], "memory_usage": [512.0], "memory_ratio": [0.25]})
    (usage,) = summarize_services(told)
    assert (usage.sizes.cpu_limit, usage.sizes.memory_limit) == (2.0, 2048.0)
    slack = usage.slack["cpu"]
    assert (slack.held, slack.of, slack.free, slack.share) == (2.0, "limit", 1.0, 0.5)


def test_what_is_reserved_counts_before_the_limit() -> None:
    sizes = {"relaycore": Sizes(cpu_limit=2.0, cpu_reserved=0.5)}
    (usage,) = summarize_services(steps({"cpu_cores": [0.75], "memory_usage": [100.0]}), sizes)
    assert (usage.slack["cpu"].of, usage.slack["cpu"].free) == ("reserved", -0.25)
    assert "memory" not in usage.slack


@pytest.mark.parametrize(("q", "expected"), [(0.5, 2), (0.9, 4), (0.95, 4), (0.25, 1), (0.26, 2), (1.0, 4)])
def test_percentiles_are_of_nearest_rank(q: float, expected: float) -> None:
    assert percentile([4, 1, 3, 2], q) == expected


def test_what_nobody_told_is_absent_and_named() -> None:
    findings = find(Observed(Span("now", BEGIN, BEGIN + STEP), STEP, steps({"cpu_cores": [0.0]})), None)
    assert "memory_usage" in findings.not_told["relaycore"]
    assert "cpu_cores" not in findings.not_told["relaycore"]
    told = findings.as_json()
    assert told["services"][0]["replica"].keys() == {"cpu_cores"}
    assert told["efficiency"][0]["requests_per_cpu_s"] is None
    assert told["series"]["relaycore"]["cpu_cores"] == [[BEGIN.timestamp(), 0.0]]


def test_calls_tell_the_network_between_two_services() -> None:
    network = {bucket_of(1_000): 90, bucket_of(8_000): 10}
    pair = CallTimes("autmatrix-backend", "relaycore", 200, 100, 20, 1_000_000, 750_000, network, None, 4_000.0)
    (told,) = summarize_calls([pair])
    assert told.network_p50_ms == pytest.approx(1.0, rel=0.01)
    assert told.network_p95_ms == pytest.approx(8.0, rel=0.01)
    assert (told.network_share, told.error_rate) == (0.25, 0.1)
    assert (told.bytes_sent_per_call, told.bytes_received_per_call) == (None, 20.0)


def test_calls_that_nobody_answered_tell_no_network() -> None:
    (told,) = summarize_calls([CallTimes("a", "", 3, 0, 3, 0, 0, {})])
    assert (told.network_p50_ms, told.network_share, told.error_rate) == (None, None, 1.0)


def measured(
    used: list[UsageStep], served: list[Served], prices: Prices | None = PRICES
) -> dict[tuple[str, str], Efficiency]:
    span = Span("now", BEGIN, BEGIN + 2 * STEP)
    return {(one.of, one.kind): one for one in measure_span(span, STEP, used, served, {}, prices)}


def test_efficiency_is_requests_and_cost_by_what_was_used() -> None:
    used = steps({"cpu_cores": [1.0, 1.0], "memory_usage": [1024.0, 1024.0], "request_rate": [50.0, 150.0]})
    told = measured(used, [Served("relaycore", BEGIN, 500, 0, 0, 0)])
    service, whole = told["relaycore", "service"], told["all", "all"]
    assert (service.requests, service.counted_by, service.requests_per_cpu_s) == (2_000.0, "service", 100.0)
    assert (service.cpu_s_per_thousand, service.memory_mb_s_per_thousand) == (10.0, 10_240.0)
    assert service.cost == pytest.approx(20 / 3600 * 0.36 + 20 / 3600 * 0.036)
    assert service.cost_per_thousand == pytest.approx((20 / 3600 * 0.36 + 20 / 3600 * 0.036) / 2)
    assert (whole.requests, whole.counted_by) == (500.0, "runs")


def test_requests_of_runs_count_where_the_service_counts_none() -> None:
    used = steps({"cpu_cores": [1.0]})
    told = measured(used, [Served("relaycore", BEGIN, 500, 0, 0, 0)], None)
    service = told["relaycore", "service"]
    assert (service.requests, service.counted_by, service.requests_per_cpu_s) == (500.0, "runs", 50.0)
    assert (service.memory_mb_s, service.cost) == (None, None)


def test_a_sum_that_lacks_a_part_is_not_told() -> None:
    told = measured([*steps({"cpu_cores": [1.0]}), *steps({"memory_usage": [1.0]}, service="other")], [])
    assert (told["all", "all"].cpu_core_s, told["relaycore", "service"].cpu_core_s) == (None, 10.0)


def days(rates: list[float]) -> list[UsageDay]:
    return [
        UsageDay("relaycore", "relaycore", "relaycore-1", metric, BEGIN + timedelta(days=number), 60, mean, 60, p95)
        for number, rate in enumerate(rates)
        for metric, mean, p95 in (("cpu_cores", 1.0, 1.0), ("cpu_usage", 0.5, 0.75), ("request_rate", rate, rate))
    ]


def test_days_tell_efficiency_slack_and_where_it_goes() -> None:
    told = [one for one in measure_days(days([100, 90, 80, 70, 60, 50, 40]), [], None) if one.kind == "service"]
    assert [one.requests_per_cpu_s for one in told] == [100, 90, 80, 70, 60, 50, 40]
    assert (told[0].span, told[0].cpu_slack, told[0].memory_slack) == ("2026-03-01", 0.25, None)
    (trend,) = find_trends(told)
    assert (trend.figure, trend.points, trend.direction) == ("requests_per_cpu_s", 7, "worse")
    assert trend.change == pytest.approx(-60 / 70)


@pytest.mark.parametrize(
    ("rates", "direction"),
    [([40, 50, 60, 70, 80, 90], "better"), ([50, 51, 49, 50, 51, 49], "steady")],
    ids=["more of the same", "noise"],
)
def test_a_trend_is_told_beyond_chance_alone(rates: list[float], direction: str) -> None:
    told = [one for one in measure_days(days(rates), [], None) if one.kind == "service"]
    assert [trend.direction for trend in find_trends(told)] == [direction]


def test_three_days_are_no_trend() -> None:
    assert find_trends(measure_days(days([1, 2, 3]), [], None)) == []


def test_runs_come_before_days_in_the_history() -> None:
    used = steps({"cpu_cores": [1.0], "request_rate": [10.0]})
    run = PastRun(Span("run-1", BEGIN, BEGIN + STEP), STEP, used, [])
    observed = Observed(Span("now", BEGIN, BEGIN + STEP), STEP, used, runs=[run], days=days([10.0]))
    history: list[Any] = [one.span for one in find(observed, None).history if one.kind == "service"]
    assert history == ["run-1", "2026-03-01"]
