"""Sizing by the load itself: what is offered, how many replicas it asks for, and what holds it."""

from typing import Any

import numpy as np
import pytest

from services.scaler.demand import demand
from services.scaler.history import Tracker
from services.scaler.offered import Offered
from services.scaler.policy import decide
from services.scaler.situation import Demand, Facts, Memory, Observation
from services.scaler.sizing import sized
from shared.contracts.resource import ResourceSample
from shared.contracts.scaling import Action
from shared.contracts.scaling_rules import ScalingRules, ServiceRules, Sizing
from tests.unit.scaler_cases import NOW_S, change, facts, idle_for, relaycore, running, sample

SIZING = Sizing(concurrency=8)
RULES = relaycore(up=(), down=None, max=40, sizing=SIZING.model_dump())


def load(rate: float = 112.0, **more: Any) -> Demand:
    """Even load of 0.5 s: 112 requests/s keep 56 servers busy, 10 replicas of 8 at 70 %."""
    fields = {"stable": rate, "panic": rate, "rate": rate, "forecast": rate, "service_s": 0.5}
    return Demand.model_validate(fields | more)


def situation(seen: Observation, known: Demand | None) -> Facts:
    return facts(seen, {}).model_copy(update={"demand": known})


def decided(seen: Observation, known: Demand | None, memory: Memory | None = None) -> tuple[str, int, str]:
    decision = decide(RULES, situation(seen, known), memory or Memory())
    return decision.action.value, decision.target, decision.reason_code


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        (load(), (10, 8, 10)),
        (load(forecast=224.0), (20, 15, 20)),
        (load(dispersion=28.0), (10, 12, 10)),
        (load(surge=10.0), (10, 14, 10)),
        (load(waiting=500.0), (10, 8, 13)),
        (load(rate=176.0, stable=112.0, forecast=176.0), (16, 12, 19)),
    ],
    ids=["even", "growing", "batches", "bursts before", "a line", "more than is carried"],
)
def test_load_bursts_and_backlog_each_ask_for_what_they_need(known: Demand, asked: tuple[int, ...]) -> None:
    candidates = sized(RULES, situation(running(10), known))
    assert [one.source for one in candidates] == ["sizing:load", "sizing:bursts", "sizing:backlog"]
    assert tuple(one.replicas for one in candidates) == asked


def test_one_step_reaches_the_right_size_however_far_it_is() -> None:
    assert decided(running(10), load(440.0)) == ("scale_up", 40, "sized")


def test_replicas_that_are_starting_count_as_there() -> None:
    assert decided(running(10, 4, starting=6), load())[0] == "no_action"


def test_more_load_is_answered_before_what_was_ordered_is_ready() -> None:
    ordered = change(20, cause="sizing", target=10, ok=None, done_s=None, verdict=None)
    waiting = running(10, 4, starting=6)
    assert decided(waiting, load(), Memory(changes=(ordered,)))[2] == "awaiting_ready"
    assert decided(waiting, load(224.0), Memory(changes=(ordered,))) == ("scale_up", 20, "sized")


def test_a_change_that_was_overtaken_is_waited_for_no_longer() -> None:
    overtaken = change(20, cause="sizing", target=10, ok=None, done_s=None, verdict="unknown")
    assert not overtaken.undecided


def test_sizing_alone_removes_after_the_stabilization_window_what_was_not_needed_within_it() -> None:
    assert decided(running(20), load(), idle_for(400, highest_wanted=12)) == ("scale_down", 12, "idle")
    assert decided(running(20), load(), idle_for(200, highest_wanted=12))[2] == "stabilizing"
    assert decided(running(13), load(), idle_for(400, highest_wanted=12))[2] == "steady"


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (None, "metrics_missing"),
        (load(missing=1), "metrics_missing"),
        (load(panic_ago_s=40.0), "panic"),
    ],
    ids=["nothing known", "a replica silent", "after a sudden load"],
)
def test_nothing_is_removed_while_the_load_is_unknown_or_was_sudden(known: Demand | None, reason: str) -> None:
    assert decided(running(20), known, idle_for(400)) == ("no_action", 20, reason)


def test_the_users_own_conditions_to_scale_down_hold_beside_sizing() -> None:
    rules = relaycore(max=40, sizing=SIZING.model_dump())
    busy = facts(running(20), {"request_rate": 60.0, "cpu_usage": 0.2}).model_copy(update={"demand": load()})
    assert decide(rules, busy, idle_for(400)).reason_code == "steady"


def test_the_decision_says_what_it_was_made_from() -> None:
    decision = decide(RULES, situation(running(10), load(224.0)), Memory())
    assert "224 requests/s × 0.5 s" in decision.reason
    assert decision.cause == "sizing"
    assert {one.source for one in decision.candidates} == {"sizing:load", "sizing:bursts", "sizing:backlog"}


def test_the_tracker_keeps_what_the_load_asked_for() -> None:
    tracker = Tracker()
    tracker.look(RULES, situation(running(20), load(224.0)), ())
    later = situation(running(20), load()).model_copy(update={"now_s": NOW_S + 10})
    assert tracker.look(RULES, later, ()).highest_wanted == 20


def known_of(rates: list[float], **sizing: Any) -> Demand:
    made = demand(np.array(rates), 0.0, 0.5, SIZING.model_copy(update=sizing))
    assert made is not None
    return made


def test_a_sudden_load_is_believed_within_seconds_and_panic_lasts_a_stable_window() -> None:
    rng = np.random.default_rng(1)
    calm = rng.poisson(60, 300).tolist()
    assert known_of(calm).panic_ago_s is None
    two = known_of([*calm, *rng.poisson(240, 2).tolist()])
    assert 190 < two.rate < 260
    risen = [*calm, *rng.poisson(240, 8).tolist()]
    assert known_of(risen).panic_ago_s == 0.0
    after = known_of([*risen, *rng.poisson(240, 50).tolist()])
    assert after.panic_ago_s is not None
    assert known_of([*risen, *rng.poisson(240, 120).tolist()]).panic_ago_s is None


def test_batches_are_no_sudden_load_and_show_in_the_dispersion() -> None:
    batches = (np.random.default_rng(2).poisson(5.5, 600) * 20).tolist()
    made = known_of(batches)
    assert made.panic_ago_s is None
    assert made.dispersion == pytest.approx(20, rel=0.25)
    assert made.rate < 1.25 * made.stable


def test_growth_is_carried_on_over_the_start_up_time() -> None:
    made = known_of(np.linspace(100, 160, 60).tolist())
    assert made.forecast == pytest.approx(160 + 30, rel=0.1)
    assert known_of([100.0] * 60).forecast == pytest.approx(100)


def test_bursts_of_the_last_quarter_of_an_hour_are_reckoned_with_and_one_jump_is_not() -> None:
    seconds = np.arange(900)
    bursty = np.where(seconds % 60 < 12, 200.0, 100.0)
    assert known_of(bursty.tolist()).surge > 5
    jump = np.where(seconds < 800, 100.0, 200.0)
    assert known_of(jump.tolist()).surge < 2


def test_too_few_seconds_tell_nothing() -> None:
    assert demand(np.array([5.0, 5.0]), 0.0, 0.5, SIZING) is None


def answering(instance: str, at_s: float, line: float = 0.0) -> ResourceSample:
    """8 servers at work on 16 requests/s, 0.5 s each, and a line."""
    return sample(instance, at_s, request_rate=16.0, servers_busy=8.0, requests_in_flight=8 + line, queue_length=line)


def heard(seconds: int) -> Offered:
    offered = Offered()
    for second in range(seconds):
        for replica in ("r0", "r1"):
            offered.add(answering(replica, NOW_S + second + 0.3))
    return offered


def test_service_time_is_servers_at_work_by_requests_answered() -> None:
    offered = heard(20)
    made = offered.demand("relaycore", NOW_S + 20, SIZING, 2)
    assert made is not None
    assert (made.stable, made.service_s, made.missing) == (32.0, 0.5, 0)


def test_at_saturation_what_is_offered_is_what_is_answered_and_the_growth_of_the_line() -> None:
    offered = Offered()
    for second in range(20):
        offered.add(answering("r0", NOW_S + second, 10.0 * second))
    made = offered.demand("relaycore", NOW_S + 20, SIZING, 1)
    assert made is not None
    assert (made.stable, made.waiting) == (26.0, 190.0)
    arrived = offered.demand("relaycore", NOW_S + 20, SIZING.model_copy(update={"counts": "arrived"}), 1)
    assert arrived is not None
    assert arrived.stable == 16.0


def test_samples_delivered_again_and_out_of_order_change_nothing() -> None:
    samples = [answering(f"r{one % 2}", NOW_S + one / 2) for one in range(80)]
    once, often = Offered(), Offered()
    for one in samples:
        once.add(one)
    for one in reversed([*samples, *samples[::3]]):
        often.add(one)
        often.demand("relaycore", NOW_S + 40, SIZING, 2)
    assert often.demand("relaycore", NOW_S + 40, SIZING, 2) == once.demand("relaycore", NOW_S + 40, SIZING, 2)


def test_a_moment_of_silence_is_bridged_and_a_gap_ends_what_is_known() -> None:
    offered = heard(20)
    silent = offered.demand("relaycore", NOW_S + 22, SIZING, 2)
    assert silent is not None
    assert silent.stable == 32.0
    assert offered.demand("relaycore", NOW_S + 40, SIZING, 2) is None


def test_the_line_of_a_replica_that_comes_back_from_silence_is_no_load_that_has_just_come() -> None:
    offered = Offered()
    for second in range(100):
        for replica in ("r0", "r1"):
            if replica == "r0" or not 60 <= second < 80:
                offered.add(answering(replica, NOW_S + second, line=200.0))
    for second in range(65, 100):
        made = offered.demand("relaycore", NOW_S + second, SIZING, 2)
        assert made is not None
        assert made.forecast <= 32.0


def test_what_a_new_replica_has_inside_has_come() -> None:
    offered = heard(20)
    for replica in ("r0", "r1", "r2"):
        offered.add(answering(replica, NOW_S + 20, line=50.0 * (replica == "r2")))
    made = offered.demand("relaycore", NOW_S + 21, SIZING, 3)
    assert made is not None
    assert made.stable == pytest.approx((19 * 32 + 48 + 58) / 20)


@pytest.mark.parametrize("absurd", [float("nan"), float("inf"), -50.0, 1e308])
def test_a_value_that_cannot_be_is_taken_for_none(absurd: float) -> None:
    offered, sound = heard(20), heard(20)
    offered.add(sample("r0", NOW_S + 19.9, request_rate=absurd, servers_busy=8.0))
    assert offered.demand("relaycore", NOW_S + 20, SIZING, 2) == sound.demand("relaycore", NOW_S + 20, SIZING, 2)


def test_a_replica_that_was_not_heard_is_missing() -> None:
    offered = heard(20)
    made = offered.demand("relaycore", NOW_S + 20, SIZING, 3)
    assert made is not None
    assert made.missing == 1


def test_without_service_times_nothing_is_said() -> None:
    offered = Offered()
    for second in range(20):
        offered.add(sample("r0", NOW_S + second, request_rate=16.0))
    assert offered.demand("relaycore", NOW_S + 20, SIZING, 2) is None
    assert decide(RULES, situation(running(4), None), Memory()).action is Action.NO_ACTION


@pytest.mark.parametrize(
    ("sizing", "words"),
    [
        ({}, "concurrency"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 8, "utilization": 1.0}, "utilization"),
        ({"concurrency": 8, "drain": "0.5s"}, "drain 0.5 s is too short"),
        ({"concurrency": 8, "start_up": "10m"}, "start_up 600 s"),
        ({"concurrency": 8, "start_up": "60s"}, "start_up 60 s is not shorter than .*ready_within 60 s"),
        ({"concurrency": 8, "panic": {"window": "60s"}}, "shorter than stable"),
        ({"concurrency": 8, "panic": {"stable": "1h"}}, "at most 300 s"),
    ],
)
def test_a_sizing_that_cannot_be_is_refused_with_its_field(sizing: dict[str, Any], words: str) -> None:
    document = {"services": {"relaycore": {"system": "relaycore", "min": 1, "max": 2, "sizing": sizing}}}
    with pytest.raises(ValueError, match=words):
        ScalingRules.model_validate(document)
    assert ServiceRules.model_validate({"system": "relaycore", "min": 1, "max": 2}).sizing is None
