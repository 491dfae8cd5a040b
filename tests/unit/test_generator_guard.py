"""What ends a run by itself, and the caps of a worker that no run may pass."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.generator.caps import check_limits
from services.generator.guard import count_day, harm_of, reason_to_stop
from services.generator.membership import Member
from services.generator.settings import GeneratorSettings
from shared.contracts.breach import BreachStatus
from shared.contracts.run import DayCount, Limits, Load, RunDesired, SystemProgress, WorkerProgress
from shared.errors import ConfigError
from tests.unit.console_cases import breach
from tests.unit.scenarios import desired, scenario
from tests.unit.test_generator_coordination import state, word

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
NOON_US = int(NOON.timestamp() * 1e6)
DAY_US = 86_400_000_000


def members(*sent: int) -> list[Member]:
    return [
        Member(
            WorkerProgress(worker=f"w{n}", run="run-1", epoch=1, systems=(SystemProgress(system="shop", sent=count),)),
            NOON_US,
            0.0,
        )
        for n, count in enumerate(sent)
    ]


def canary(**changes: Any) -> RunDesired:
    load = Load(scenario=scenario(), users=1, rate=1.0, duration_s=60, profile="canary")
    return desired(loads=(load,), **changes)


def test_a_day_is_counted_from_its_first_moment_and_kept_from_state_to_state() -> None:
    first = count_day(None, members(70, 30), NOON_US)
    assert first == DayCount(day=NOON.date(), sent_before=0)
    previous = state(desired(), 1, word()).model_copy(update={"day": first})
    assert count_day(previous, members(500, 40), NOON_US + 1) == first
    assert count_day(previous, members(500, 40), NOON_US + DAY_US).sent_before == 540


def test_a_spent_budget_stops_any_run_and_only_on_its_day() -> None:
    run = desired(limits=Limits(requests_per_day=100))
    today = DayCount(day=NOON.date(), sent_before=0)
    assert reason_to_stop(run, members(60, 39), today, "") == ""
    assert "budget of 100 requests a day" in reason_to_stop(run, members(60, 40), today, "")
    assert reason_to_stop(run, members(60, 40), today.model_copy(update={"sent_before": 50}), "") == ""
    assert reason_to_stop(desired(), members(10**9), today, "") == ""


def test_harm_stops_canary_load_alone() -> None:
    today = DayCount(day=NOON.date(), sent_before=0)
    harm = harm_of(breach(level="critical", status=BreachStatus.OPENED))
    assert harm
    assert "harm" in reason_to_stop(canary(), members(1), today, harm)
    assert reason_to_stop(desired(), members(1), today, harm) == ""


@pytest.mark.parametrize(("level", "status"), [("target", BreachStatus.OPENED), ("critical", BreachStatus.RESOLVED)])
def test_a_breach_of_a_target_and_one_that_is_over_are_no_harm(level: str, status: BreachStatus) -> None:
    assert harm_of(breach(level=level, status=status)) == ""


def test_a_run_past_a_workers_caps_is_refused_by_name() -> None:
    caps = GeneratorSettings(max_users=5, max_duration_s=30)
    with pytest.raises(ConfigError, match="TIDEGATE_MAX_USERS=5"):
        check_limits(desired(loads=(Load(scenario=scenario(), users=6, duration_s=10),)), caps)
    with pytest.raises(ConfigError, match="TIDEGATE_MAX_DURATION_S=30"):
        check_limits(desired(loads=(Load(scenario=scenario(), users=5, duration_s=31),)), caps)


def test_a_proxy_outside_the_allow_list_is_refused() -> None:
    behind = scenario(client={"transport": "aiohttp", "proxy": "http://proxy.example.com:3128"})
    run = desired(loads=(Load(scenario=behind, users=1, duration_s=10),))
    with pytest.raises(ConfigError, match=r"proxy=.* host 'proxy.example.com' is not in the allow-list"):
        check_limits(run, GeneratorSettings())


def test_a_cap_on_all_requests_holds_though_stripes_were_taken_over_with_parts_of_their_own() -> None:
    run = desired(limits=Limits(requests=100))
    today = DayCount(day=NOON.date(), sent_before=0)
    assert reason_to_stop(run, members(60, 40), today, "") == ""
    assert "its cap of 100 requests in all" in reason_to_stop(run, members(60, 41), today, "")


def test_the_tighter_cap_holds() -> None:
    assert Limits(rate=5, requests=None).within(3, 100) == Limits(rate=3, requests=100)
    assert Limits(rate=2).within(None, None) == Limits(rate=2)
