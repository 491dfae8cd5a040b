"""Right sizes: each rule with the figures it rests on, and what no figures may lead to."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scaler.resources.bounds import NAMES, bounded, over, refusal, same
from services.scaler.resources.item import Advice
from services.scaler.resources.queueing import wait_ms
from services.scaler.resources.right_sizing import ENOUGH, LEAST_CHANGE, right_size
from services.scaler.situation import Sizes
from shared.contracts.prices import Prices
from shared.contracts.scaling_rules import Resizing
from tests.unit.resource_cases import RESIZING, SIZES, rules, spread, use

FREE = None


def sizes_of(found: Advice, part: str) -> dict[str, float]:
    """What the item of a part asks for; empty without one."""
    given = [item.to_sizes for item in found.items if item.part == part and item.to_sizes is not None]
    return given[0].model_dump(exclude_none=True) if given else {}


@pytest.mark.parametrize(
    ("seen", "rule_values", "expected"),
    [
        ({"cpu_cores": spread(0.5, p90=0.4)}, {"up": ()}, {"cpu_limit": 0.65, "cpu_reserved": 0.55}),
        ({"cpu_cores": spread(0.5, p90=0.4)}, {}, {"cpu_limit": 0.75, "cpu_reserved": 0.55}),
        ({"cpu_cores": spread(1.1, p90=0.299)}, {"up": ()}, {}),
        ({"cpu_cores": spread(0.5, p90=0.29), "cpu_throttled": spread(0.2)}, {"up": ()}, {"cpu_limit": 1.95}),
        ({"cpu_cores": spread(1.49, p90=0.29)}, {"up": ()}, {"cpu_limit": 1.95}),
        ({"cpu_cores": spread(0.5, p90=0.4, samples=ENOUGH - 1)}, {}, {}),
    ],
    ids=[
        "p90 and p95 with headroom",
        "not so small that it would scale out",
        "within 10 % of right",
        "throttled",
        "use cut off by its limit",
        "too few samples",
    ],
)
def test_cpu(seen: dict[str, Any], rule_values: dict[str, Any], expected: dict[str, float]) -> None:
    sizes = SIZES.model_copy(update={"cpu_reserved": 0.4})
    found = right_size(use(sizes=sizes, **seen), rules(**rule_values), 0.3, FREE)
    assert sizes_of(found, "cpu") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"memory_mb": spread(600, most=800)}, {"memory_limit": 928, "memory_reserved": 928}),
        ({"memory_mb": spread(1700, most=1750)}, {"memory_reserved": 2016}),
        ({"memory_mb": spread(1900, most=2040), "full_ends": 2}, {"memory_limit": 2368, "memory_reserved": 2352}),
        ({"memory_mb": spread(600, most=800, samples=99)}, {}),
    ],
    ids=["maximum and 15 %", "limit within 10 % of right", "ended full", "too few samples"],
)
def test_memory(seen: dict[str, Any], expected: dict[str, float]) -> None:
    sizes = SIZES.model_copy(update={"memory_reserved": 1280.0})
    assert sizes_of(right_size(use(sizes=sizes, **seen), rules(up=()), 0.3, FREE), "memory") == pytest.approx(expected)


def test_a_suspected_leak_is_reported_and_nothing_is_resized() -> None:
    found = right_size(
        use(memory_mb=spread(1900, most=2040), full_ends=3, leaking=("relaycore-1",)), rules(), 0.3, FREE
    )
    [item] = found.items
    assert (item.id, item.applicable, item.to_sizes) == ("memory.relaycore.leak", False, None)
    assert "relaycore-1" in item.evidence[0]


def test_evidence_impact_and_risk_are_told_in_figures() -> None:
    seen = use(
        cpu_cores=spread(0.5, p90=0.1), request_rate=spread(100.0), sizes=SIZES.model_copy(update={"cpu_reserved": 1.0})
    )
    [item] = right_size(seen, rules(), 0.3, Prices(core_hour=0.04, gb_hour=0.005, currency="EUR")).items
    assert item.title == "relaycore: cpu per replica promised 1 → 0.25, limit 1.5 → 0.75 cores"
    assert item.evidence == (
        "use per replica p90 0.1, p95 0.5, most 0.5 cores",
        "5000 samples of 3 replicas over 48 h",
        "cpu_reserved: 0.15 cores is outside 0.25 to 4, so 0.25",
    )
    assert item.impact.latency_ms is not None
    assert item.impact.latency_ms > 0
    assert item.impact.cores == pytest.approx(3 * (item.to_sizes.cpu_reserved - 1.0))  # type: ignore[union-attr, operator]
    assert item.impact.cost_per_hour == pytest.approx(0.04 * (item.impact.cores or 0))
    assert (item.risk, item.applicable) == ("medium", True)


def test_less_than_a_day_makes_a_smaller_replica_a_high_risk() -> None:
    [item] = right_size(use(cpu_cores=spread(0.3), span_s=3_600.0), rules(), 0.3, FREE).items
    assert item.risk == "high"
    assert "1 h" in item.risk_reason


@pytest.mark.parametrize(
    ("resizing", "sizes", "why"),
    [
        (None, SIZES, "resizing is not set"),
        (RESIZING.model_copy(update={"enabled": False}), SIZES, "is not enabled"),
        (RESIZING, Sizes(), "does not tell"),
    ],
)
def test_what_cannot_be_applied_says_why(resizing: Resizing | None, sizes: Sizes, why: str) -> None:
    [item] = right_size(use(cpu_cores=spread(0.3), sizes=sizes), rules(resizing), 0.3, FREE).items
    assert not item.applicable
    assert why in item.why_not


def test_a_first_limit_is_not_part_of_what_is_applied() -> None:
    used = use(cpu_cores=spread(0.3), memory_mb=spread(600.0), sizes=Sizes(memory_limit=2048.0))
    items = {item.part: item for item in right_size(used, rules(), 0.3, None).items}
    assert items["memory"].applicable
    assert items["memory"].to_sizes == Sizes(memory_limit=704.0)
    assert not items["cpu"].applicable
    assert "there is none so far" in items["cpu"].why_not


def test_limits_that_only_samples_tell_are_not_applied() -> None:
    used = use(cpu_cores=spread(0.3), sizes=Sizes(cpu_limit=1.5), told=False)
    [item] = right_size(used, rules(), 0.3, None).items
    assert (item.applicable, item.why_not[:21]) == (False, "the target does not t")


def test_too_little_data_and_no_need_are_notes() -> None:
    found = right_size(use(cpu_cores=spread(0.3, samples=40)), rules(), 0.3, FREE)
    assert found.items == ()
    assert found.notes == (
        "relaycore: 40 samples of its CPU, 100 are needed",
        "relaycore: no samples tell its memory in MB",
    )


def amounts(least: float, most: float) -> st.SearchStrategy[float]:
    return st.floats(least, most, allow_nan=False)


@st.composite
def sizes_strategy(draw: st.DrawFn) -> Sizes:
    cpu, memory = draw(amounts(0.1, 8)), draw(amounts(64, 16_384))
    return Sizes(
        cpu_limit=cpu, memory_limit=memory,
        cpu_reserved=cpu * draw(amounts(0.05, 1)), memory_reserved=memory * draw(amounts(0.05, 1)),
    )  # fmt: skip


@given(
    now=sizes_strategy(),
    cpu=amounts(0.001, 8),
    memory=amounts(1, 16_384),
    throttled=amounts(0, 1),
    step=amounts(0.05, 0.95),
    full=st.integers(0, 3),
    leaking=st.booleans(),
    headroom=amounts(0, 1),
)
def test_whatever_was_used_sizes_stay_within_limits_and_steps_and_change_enough(
    now: Sizes, cpu: float, memory: float, throttled: float, step: float, full: int, leaking: bool, headroom: float
) -> None:
    resizing = RESIZING.model_copy(update={"step": step})
    seen = use(
        sizes=now, cpu_cores=spread(cpu), cpu_throttled=spread(throttled), memory_mb=spread(memory), full_ends=full,
        leaking=("one",) if leaking else (),
    )  # fmt: skip
    found = right_size(seen, rules(resizing), headroom, FREE)
    for item in found.items:
        if item.to_sizes is None:
            continue
        assert not (leaking and item.part == "memory")
        for name in NAMES:
            value, there = getattr(item.to_sizes, name), getattr(now, name)
            if value is None:
                continue
            limits = resizing.cpu if name.startswith("cpu") else resizing.memory
            allowed = min(max(there, limits.min), limits.max)
            assert limits.min - 1e-6 <= value <= limits.max + 1e-6 or abs(value - allowed) < abs(there - allowed)
            assert abs(value - there) >= LEAST_CHANGE * there * 0.999 or name.endswith("reserved")
            assert abs(value - there) <= step * there * 1.001 or name.endswith("reserved")
            if throttled > 0.05 and name == "cpu_limit":
                assert value >= there or there > resizing.cpu.max
        assert refusal(item.to_sizes, now, resizing) == ""
        after = over(now, item.to_sizes)
        assert after.cpu_reserved <= after.cpu_limit + 1e-6  # type: ignore[operator]
        assert after.memory_reserved <= after.memory_limit + 1e-6  # type: ignore[operator]


def test_bounds_say_what_they_did_and_an_order_beyond_them_is_refused() -> None:
    resizing = RESIZING.model_copy(update={"step": 0.5})
    sizes, words = bounded(Sizes(cpu_limit=9.0, memory_limit=100.0), SIZES, resizing)
    assert sizes == Sizes(cpu_limit=2.25, memory_limit=1024.0)
    assert words == (
        "cpu_limit: 9 cores is outside 0.25 to 4, so 4",
        "cpu_limit: one step of 50% from 1.5 leads to 2.25 cores",
        "memory_limit: 100 MB is outside 256 to 4096, so 256",
        "memory_limit: one step of 50% from 2048 leads to 1024 MB",
    )
    assert "outside" in refusal(Sizes(cpu_limit=9.0), SIZES, resizing)
    assert refusal(Sizes(cpu_reserved=1.6), SIZES, RESIZING.model_copy(update={"step": 0.99})) != ""
    assert refusal(sizes, SIZES, resizing) == ""
    assert same(over(SIZES, sizes), sizes)
    assert not same(SIZES, sizes)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_the_wait_for_a_core_is_that_of_mm1_and_near_erlangs_c(share: float) -> None:
    assert wait_ms(1.0, share, 100.0) == pytest.approx(1000 * share / (1 - share) * share / 100)
    servers, rate = 4, 100.0
    load = share * servers
    last = load**servers / math.factorial(servers) / (1 - share)
    waits = last / (sum(load**k / math.factorial(k) for k in range(servers)) + last)
    exact = 1000 * waits / (servers * (1 - share)) * (load / rate)
    assert wait_ms(4.0, load, rate) == pytest.approx(exact, rel=0.2) or share < 0.5
    assert wait_ms(1.0, 1.0, rate) is None
    assert wait_ms(1.0, 0.5, 0.0) is None
