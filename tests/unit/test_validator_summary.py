"""The summary of a day: sums, hours, budgets and breaches to the last figure, and its tables."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.console.summary_rows import as_markdown, day_row, drift_line, headline, sections
from services.validator.canary import CanaryRun, Days
from services.validator.health import GeneratorHealth
from services.validator.summary import DayFacts, build_summary
from shared.contracts.breach import BreachStatus
from shared.contracts.timing import Kind
from shared.contracts.window import Exemplar
from shared.histogram import bucket_of
from shared.store.figures import SpanTotals, Stored
from shared.store.summaries import SummaryRow
from tests.unit.console_cases import breach
from tests.unit.test_validator_canary import canary, finding
from tests.unit.test_validator_judging import BENCHMARKS
from tests.unit.validator_frames import RUN, START

DAY = Days(UTC).day(START.date())


def hour(number: int, fast: int, slow: int = 0, failed: int = 0, *, kind: Kind = Kind.REQUEST) -> SpanTotals:
    """An hour of 50 ms answers and some of a second."""
    count = fast + slow
    return SpanTotals(
        run=RUN,
        system="autmatrix",
        scenario="story",
        action="create",
        kind=kind,
        start=DAY.start + timedelta(hours=number),
        stored=count + 2,
        cancelled=2,
        count=count,
        failed=failed,
        sum_us=fast * 50_000 + slow * 1_000_000,
        max_us=1_000_000 if slow else 50_000,
        response={bucket_of(50_000): fast, **({bucket_of(1_000_000): slow} if slow else {})},
    )


def facts(**changes: Any) -> DayFacts:
    given = {
        "hours": [*(hour(number, 1_000) for number in range(22)), hour(22, 600, 400), hour(23, 990, 10, failed=60)],
        "stored": Stored(stored=24_048, sent=24_058, held=3, frames={}),
        "since": DAY.start,
        "until": DAY.stop,
        "complete": True,
        **changes,
    }
    return DayFacts(CanaryRun(canary(), START - timedelta(days=3)), DAY, "UTC", **given)


def test_hours_are_judged_and_budgets_counted() -> None:
    times, errors, cpu = build_summary(BENCHMARKS, facts())["benchmarks"]
    assert (times["hours"]["met"], times["hours"]["critical"], times["hours"]["insufficient"]) == (23, 1, 0)
    assert times["error_budget_spent"] == pytest.approx(410 / 24_000 / 0.05, abs=1e-4)
    assert (errors["hours"]["met"], errors["hours"]["missed"] + errors["hours"]["critical"]) == (23, 1)
    assert errors["error_budget_spent"] == pytest.approx(60 / 24_000 / 0.01, abs=1e-4)
    assert cpu["hours"] is None
    # Hours in which nothing came say nothing.
    silent = build_summary(BENCHMARKS, facts(hours=[hour(0, 1_000)]))["benchmarks"][0]["hours"]
    assert (silent["met"], silent["insufficient"]) == (1, 23)


def test_requests_are_counted_once_and_what_is_missing_is_the_days_own() -> None:
    body = build_summary(BENCHMARKS, facts(before={"totals": {"missing": 5, "health": {}}}))
    assert body["requests"] == {
        "sent": 24_050, "stored": 24_048, "missing": 2, "failed": 60, "cancelled": 48, "error_rate": 0.0025,
        "per_second": 0.278,
    }  # fmt: skip
    assert body["totals"]["missing"] == 7
    (action,) = body["actions"]
    assert (action["count"], action["response_time_ms"]["max"]) == (24_000, 1_000.0)
    assert action["response_time_ms"]["p50"] == pytest.approx(50, rel=0.01)
    assert action["response_time_ms"]["mean"] == pytest.approx((23_590 * 50 + 410 * 1_000) / 24_000, abs=1e-3)


def test_late_rows_are_no_longer_missing_and_change_nothing_else() -> None:
    health = {"autmatrix": GeneratorHealth(frames=100, seconds=86_000)}
    first = build_summary(BENCHMARKS, facts(health=health))
    late = facts(hours=[*facts().hours, replace(hour(5, 4), stored=4)], own=first, stored=Stored(0, 0, 0, {}))
    revised = build_summary(BENCHMARKS, late)
    assert (first["requests"]["missing"], revised["requests"]["missing"]) == (7, 3)
    assert revised["requests"]["sent"] == first["requests"]["sent"]
    assert revised["generator_health"] == first["generator_health"]


def test_the_generators_day_is_the_difference_to_the_day_before_or_what_is_known() -> None:
    now = {"autmatrix": GeneratorHealth(frames=500, seconds=100, seconds_at_fault=7)}
    before = {"totals": {"missing": 0, "health": {"autmatrix": Counter(frames=400, seconds=60, seconds_at_fault=7)}}}
    told = build_summary(BENCHMARKS, facts(health=now, before=before))["generator_health"]["autmatrix"]
    assert (told["frames"], told["seconds"], told["seconds_at_fault"]) == (100, 40, 0)
    before["totals"]["health"] = {"autmatrix": Counter(frames=900)}
    assert build_summary(BENCHMARKS, facts(health=now, before=before))["generator_health"]["autmatrix"]["frames"] == 500


def test_minutes_in_breach_are_those_of_the_day() -> None:
    one = breach(BreachStatus.RESOLVED, breach="b1", system="autmatrix", metric="api_response_time").model_copy(
        update={"opened_at": DAY.start - timedelta(minutes=30), "resolved_at": DAY.start + timedelta(minutes=15)}
    )
    open_one = one.model_copy(
        update={"breach": "b2", "opened_at": DAY.stop - timedelta(minutes=5), "resolved_at": None}
    )
    body = build_summary(BENCHMARKS, facts(breaches=[open_one, one]))
    assert body["benchmarks"][0]["minutes_in_breach"] == 20
    assert body["benchmarks"][0]["share_in_breach"] == pytest.approx(20 / 1_440, abs=1e-6)
    assert (body["breaches"]["total"], body["breaches"]["open"]) == (2, 1)
    assert [row["minutes_of_day"] for row in body["breaches"]["listed"]] == [15, 5]


def row_of(made: DayFacts, revision: int = 1) -> SummaryRow:
    body = build_summary(BENCHMARKS, made)
    return SummaryRow(RUN, DAY.day, "story", revision, made.complete, datetime.now(UTC), body)


def test_a_day_is_shown_with_what_matters_first() -> None:
    drifted = finding()
    better = replace(finding(50.0), verdict=drifted.verdict.MET, improved=True, action="other")
    made = facts(
        findings=[drifted, better],
        slowest=[("create", Exemplar(trace_id="ab" * 16, response_us=9_000_000, recorded=True))],
    )
    row = row_of(made)
    assert headline(row) == f"{RUN} on 2026-03-01 (UTC), 24.0 h"
    assert day_row(row)[3:] == ("24,055", "7", "60", "0", "0", "1", "1")
    titles = [section.title for section in sections(row.body)]
    assert titles == ["benchmarks", "drift against past days", "actions", "slowest requests with a trace"]
    drift = sections(row.body)[1]
    assert drift.bad == {0}
    assert drift.rows[0][2:] == ("response_time_drift", "p95", "150 ms", "100 ms", "+50%", "120 ms")
    assert drift.rows[1][2] == "better"
    assert drift_line(row.body) == "drift: 2 figures held against 28 past days"
    assert "not compared" in drift_line(row_of(facts()).body)
    assert day_row(row_of(replace(facts(), complete=False), 0))[-1] == "so far"


def test_nothing_in_a_name_breaks_out_of_the_markdown() -> None:
    evil = "a|b`<script>*\n# x"
    rows = [replace(hour(number, 500), action=evil) for number in range(24)]
    text = as_markdown(row_of(facts(hours=rows)))
    assert "<script>" not in text
    assert "a\\|b\\`\\<script\\>\\*" in text
    assert all(line.startswith(("#", "|", "requests", "drift")) for line in text.splitlines() if line)
