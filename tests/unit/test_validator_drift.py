"""Canaries against their past days: what has changed is found, and days that only differ are let be."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from services.validator.drift import DriftRules, Finding, Grain, Window, judge_window, worst_of
from services.validator.verdict import Verdict
from shared.contracts.breach import DriftMetric
from tests.unit.canary_world import Change, World, as_window, whole_day

RULES = DriftRules()
DAYS = 40


def played(world: World, days: int) -> list[list[Window]]:
    return [[as_window(world.weekday(day), hour) for hour in world.hours(day)] for day in range(days)]


def day_of(world: World, day: int, hours: Sequence[Window]) -> Window:
    return as_window(world.weekday(day), whole_day([dict(hour.totals) for hour in hours]), 86_400.0)


def last_hours(world: World, hours: Sequence[int] = (3, 12, 20)) -> list[Finding]:
    days = played(world, DAYS + 1)
    return [
        finding
        for hour in hours
        for finding in judge_window(
            days[DAYS][hour], [days[day][hour] for day in range(DAYS - 1, -1, -1)], Grain.HOUR, RULES
        )
    ]


def last_day(world: World) -> list[Finding]:
    days = [day_of(world, day, hours) for day, hours in enumerate(played(world, DAYS + 1))]
    return judge_window(days[DAYS], days[DAYS - 1 :: -1], Grain.DAY, RULES)


def broken(findings: Sequence[Finding]) -> set[tuple[str, str]]:
    return {(one.metric, one.statistic) for one in findings if one.verdict is Verdict.MISSED}


@pytest.mark.parametrize("seed", range(3))
def test_days_that_only_differ_are_let_be(seed: int) -> None:
    findings = last_hours(World(seed))
    assert broken(findings) == set()
    assert {one.verdict for one in findings} == {Verdict.MET}
    assert broken(last_day(World(seed + 50))) == set()


@pytest.mark.parametrize("seed", range(3))
def test_a_third_more_is_found_in_any_hour(seed: int) -> None:
    found = [one for one in last_hours(World(seed, change=Change(DAYS, whole=1.35))) if one.verdict is Verdict.MISSED]
    assert {one.metric for one in found} == {DriftMetric.RESPONSE_TIME}
    assert {one.statistic for one in found} == {"p50", "p95", "p99"}
    for one in found:
        assert one.value is not None
        assert one.usual is not None
        assert one.limit is not None
        assert one.usual < one.limit <= one.value
        assert one.value / one.usual == pytest.approx(1.35, abs=0.25)


def test_a_slower_tail_is_found_by_its_percentiles_alone() -> None:
    assert broken(last_hours(World(4, change=Change(DAYS, tail=1.6)))) == {
        (DriftMetric.RESPONSE_TIME, "p95"), (DriftMetric.RESPONSE_TIME, "p99")
    }  # fmt: skip


def test_more_failures_are_found_and_fewer_are_no_breach() -> None:
    assert broken(last_hours(World(5, change=Change(DAYS, errors=0.02)))) == {(DriftMetric.ERROR_RATE, "rate")}
    assert broken(last_hours(World(5, error_rate=0.03, change=Change(DAYS, errors=-0.02)))) == set()


def test_a_change_too_small_to_matter_is_none_however_sure_it_is() -> None:
    sure = World(6, day_effect=0.002, hour_effect=0.001, rate=20, change=Change(DAYS, whole=1.04))
    assert broken(last_hours(sure)) == set()
    sure = World(6, day_effect=0.002, hour_effect=0.001, rate=20, change=Change(DAYS, whole=1.08))
    assert (DriftMetric.RESPONSE_TIME, "p50") in broken(last_hours(sure))


def test_what_became_faster_is_told_and_no_breach() -> None:
    found = last_hours(World(7, change=Change(DAYS, whole=0.6)))
    assert broken(found) == set()
    assert any(one.improved for one in found)


def test_load_that_is_no_longer_answered_is_found() -> None:
    days = played(World(8), DAYS + 1)
    past = [days[day][9] for day in range(DAYS - 1, -1, -1)]
    halved = {key: replace(told, count=told.count // 2) for key, told in days[DAYS][9].totals.items()}
    found = judge_window(replace(days[DAYS][9], totals=halved), past, Grain.HOUR, RULES)
    assert (DriftMetric.THROUGHPUT, "rate") in broken(found)
    none = judge_window(replace(days[DAYS][9], totals={}), past, Grain.HOUR, RULES)
    assert broken(none) == {(DriftMetric.THROUGHPUT, "rate")}
    assert {one.verdict for one in none if one.metric != DriftMetric.THROUGHPUT} == {Verdict.INSUFFICIENT}


def test_few_days_or_few_requests_say_nothing() -> None:
    days = played(World(9, change=Change(6, whole=3)), 8)
    found = judge_window(days[6][5], [days[day][5] for day in range(6)], Grain.HOUR, RULES)
    assert {one.verdict for one in found} == {Verdict.INSUFFICIENT}
    assert {one.note for one in found} == {"6 past days can be compared with, 7 are needed"}
    slow = played(World(9, rate=0.01, change=Change(20, whole=3)), 21)
    found = judge_window(slow[20][5], [slow[day][5] for day in range(20)], Grain.HOUR, RULES)
    assert {one.verdict for one in found if one.metric != DriftMetric.THROUGHPUT} == {Verdict.INSUFFICIENT}


def test_one_finding_for_each_action_and_metric_and_the_worst_of_its_percentiles() -> None:
    kept = worst_of(last_hours(World(10, change=Change(DAYS, tail=1.6)), hours=(5,)))
    assert len(kept) == 3 + 3 + 1
    for one in kept:
        if one.metric == DriftMetric.RESPONSE_TIME:
            assert one.verdict is Verdict.MISSED
            assert one.statistic in ("p95", "p99")


def test_false_alarms_are_shared_by_all_figures_and_canaries() -> None:
    days = played(World(11, change=Change(DAYS, whole=1.25)), DAYS + 1)
    past = [days[day][9] for day in range(DAYS)]

    def limit(**changes: float) -> float:
        rules, canaries = replace(RULES, false_alarms_per_week=changes.get("rate", 0.5)), int(changes.get("shared", 1))
        return judge_window(days[DAYS][9], past, Grain.HOUR, rules, canaries)[0].limit or 0.0

    assert limit(rate=0.05) > limit(rate=0.5) > limit(rate=5)
    assert limit(rate=0.5, shared=10) == pytest.approx(limit(rate=0.05))
