"""The policy as tables: what is so, and what is decided."""

# ruff: noqa: E501 - one case per line, so that a table can be read down its columns

from typing import Any

import pytest

from services.scaler.policy import decide
from services.scaler.situation import Facts, Memory, Observation, OpenBreach, Reading
from shared.contracts.scaling import Action
from shared.contracts.scaling_rules import ServiceRules
from tests.unit.scaler_cases import (
    AUTMATRIX,
    NEUROWEAVER,
    NOW_S,
    RELAYCORE,
    change,
    facts,
    idle_for,
    open_breach,
    reading,
    relaycore,
    running,
)

CALM: dict[str, float | Reading] = {"cpu_usage": 0.5, "request_rate": 100.0, "routing_latency": 20.0}
IDLE: dict[str, float | Reading] = {"cpu_usage": 0.05, "request_rate": 2.0, "routing_latency": Reading(idle=True)}
SLOW: dict[str, float | Reading] = {"cpu_usage": 0.6, "request_rate": 80.0, "queue_length": 12.0}


def slow_workflow(hop: str) -> tuple[OpenBreach, ...]:
    return (open_breach("workflow_execution_time", 60_000.0, 30_000.0, system="autmatrix", slowest_hop=hop),)


def decided(rules: ServiceRules, situation: Facts, memory: Memory | None = None) -> tuple[str, int, str]:
    decision = decide(rules, situation, memory or Memory())
    if decision.action is Action.NO_ACTION:
        assert decision.target == decision.current
    return decision.action.value, decision.target, decision.reason_code


UP: list[tuple[str, Observation, dict[str, Any], tuple[OpenBreach, ...], tuple[str, int, str]]] = [
    ("nothing above its limit moves nothing", running(2), CALM, (), ("no_action", 2, "steady")),
    ("CPU 50 % over its limit asks for half as many more", running(4), CALM | {"cpu_usage": 1.125}, (), ("scale_up", 6, "rule_exceeded")),
    ("a ratio within the tolerance moves nothing", running(4), CALM | {"cpu_usage": 0.82}, (), ("no_action", 4, "steady")),
    ("the largest of all candidates wins", running(2), CALM | {"cpu_usage": 0.9, "request_rate": 290.0}, (), ("scale_up", 4, "rule_exceeded")),
    ("latency asks for a doubling at most", running(3), SLOW | {"routing_latency": 900.0}, (), ("scale_up", 6, "rule_exceeded")),
    ("latency a little over asks for a little", running(3), SLOW | {"routing_latency": 84.0}, (), ("scale_up", 4, "rule_exceeded")),
    ("load asks in proportion, within the rate limit", running(2), CALM | {"cpu_usage": 3.0}, (), ("scale_up", 6, "rule_exceeded")),
    ("the rate limit of many replicas is a doubling", running(8), CALM | {"cpu_usage": 3.0}, (), ("scale_up", 16, "rule_exceeded")),
    ("the maximum bounds everything", running(15), CALM | {"cpu_usage": 3.0}, (), ("scale_up", 20, "rule_exceeded")),
    ("at the maximum nothing moves", running(20), CALM | {"cpu_usage": 3.0}, (), ("no_action", 20, "at_max")),
    ("an open breach scales up at once", running(2), SLOW | {"routing_latency": 60.0}, (open_breach(value=60.0),), ("scale_up", 3, "breach_open")),
    ("a breach hardly over its limit adds one", running(20, 12), SLOW | {"routing_latency": 51.0}, (open_breach(value=51.0),), ("no_action", 20, "starting")),
    ("a breach is answered by the live value, not the old one", running(2), SLOW | {"routing_latency": 55.0}, (open_breach(value=5_000.0),), ("scale_up", 3, "breach_open")),
    ("a breach whose metric is back within its limit is waited out", running(4), SLOW | {"routing_latency": 20.0}, (open_breach(),), ("no_action", 4, "recovering")),
    ("starting replicas are counted", running(4, 2), SLOW | {"routing_latency": 200.0}, (open_breach(),), ("no_action", 4, "starting")),
    ("with no replica ready nothing can be said", running(2, 0), CALM | {"cpu_usage": reading(3.0)}, (), ("no_action", 2, "none_ready")),
    ("slow with idle CPU and nobody in line is spent elsewhere", running(2), {"cpu_usage": 0.05, "queue_length": 0.2, "routing_latency": 200.0}, (open_breach(),), ("no_action", 2, "not_load_related")),
    ("slow with idle CPU but a line is load", running(2), {"cpu_usage": 0.05, "queue_length": 8.0, "routing_latency": 200.0}, (open_breach(),), ("scale_up", 4, "breach_open")),
    ("slow with an unknown line is taken for load", running(2), {"cpu_usage": 0.05, "routing_latency": 200.0}, (open_breach(),), ("scale_up", 4, "breach_open")),
    ("a breach of another system's metric moves nothing here", running(2), CALM, (open_breach("api_response_time", system="autmatrix"),), ("no_action", 2, "steady")),
    ("a slow workflow moves the service that spent the time", running(2), SLOW, slow_workflow("relaycore"), ("scale_up", 4, "breach_open")),
    ("a slow workflow spent elsewhere moves nothing", running(2), SLOW, slow_workflow("neuroweaver-backend"), ("no_action", 2, "spent_elsewhere")),
    ("a slow workflow of unknown cause moves nothing", running(2), SLOW, slow_workflow(""), ("no_action", 2, "spent_elsewhere")),
    ("one silent instance of two counts as idle on the way up", running(2), CALM | {"cpu_usage": reading(0.9, missing=1, reported=1)}, (), ("no_action", 2, "steady")),
    ("a rule needs its whole window", running(2), CALM | {"cpu_usage": reading(1.5, span_s=7.9)}, (), ("no_action", 2, "steady")),
    ("what has come down again is no reason", running(2), CALM | {"cpu_usage": reading(1.5, latest=0.5)}, (), ("no_action", 2, "steady")),
    ("a breach needs no window of ours", running(2), CALM | {"routing_latency": reading(200.0, span_s=1.0)}, (open_breach(),), ("scale_up", 4, "breach_open")),
    ("silence of all is no reason to move", running(3), {}, (), ("no_action", 3, "metrics_missing")),
    ("a service being updated is left alone", running(2, updating=True), CALM | {"cpu_usage": 3.0}, (open_breach(),), ("no_action", 2, "updating")),
    ("a service with too many unhealthy replicas is left alone", running(4, 2, unhealthy=2), CALM | {"cpu_usage": 3.0}, (), ("no_action", 4, "unhealthy")),
    ("a service somebody stopped is left stopped", running(0), CALM | {"cpu_usage": 3.0}, (open_breach(),), ("no_action", 0, "stopped")),
    ("fewer than the minimum are brought back", running(1), CALM, (), ("scale_up", 2, "below_min")),
    ("more than the maximum are brought back", running(25), CALM, (), ("scale_down", 20, "above_max")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "readings", "breaches", "expected"), [pytest.param(*row[1:], id=row[0]) for row in UP]
)
def test_scaling_up(
    seen: Observation, readings: dict[str, Any], breaches: tuple[OpenBreach, ...], expected: tuple[str, int, str]
) -> None:
    assert decided(RELAYCORE, facts(seen, readings, breaches)) == expected


PAST: list[tuple[str, Memory, tuple[str, int, str]]] = [
    ("a decision without result blocks the next", Memory(changes=(change(20, ok=None, done_s=None, verdict=None),)), ("no_action", 4, "awaiting_ready")),
    ("an effect not yet measured blocks the next", Memory(changes=(change(20, verdict=None),)), ("no_action", 4, "awaiting_effect")),
    ("after the effect is known the next may follow", Memory(changes=(change(20),)), ("scale_up", 8, "breach_open")),
    ("the cooldown follows every move", Memory(changes=(change(8),)), ("no_action", 4, "cooldown")),
    ("the cooldown follows a move that failed", Memory(changes=(change(8, ok=False, verdict=None),)), ("no_action", 4, "cooldown")),
    ("a move in the rate period counts toward its limit", Memory(changes=(change(12, current=1, target=4),)), ("scale_up", 5, "breach_open")),
    ("one ineffective scale-up does not hold the next", Memory(changes=(change(40, verdict="no_effect"),)), ("scale_up", 8, "breach_open")),
    ("two ineffective scale-ups hold the cause", Memory(changes=(change(90, verdict="worse"), change(40, verdict="no_effect"))), ("no_action", 4, "ineffective")),
    ("an unknown effect neither counts nor forgives", Memory(changes=(change(90, verdict="worse"), change(60, verdict="unknown"), change(40, verdict="no_effect"))), ("no_action", 4, "ineffective")),
    ("one ineffective and one unknown do not hold", Memory(changes=(change(90, verdict="worse"), change(40, verdict="unknown"))), ("scale_up", 8, "breach_open")),
    ("one that helped in between forgives", Memory(changes=(change(90, verdict="worse"), change(60), change(40, verdict="no_effect"))), ("scale_up", 8, "breach_open")),
    ("ineffective for an earlier episode does not hold this one", Memory(changes=(change(90, verdict="worse", breaches=("b0",)), change(40, verdict="worse", breaches=("b0",)))), ("scale_up", 8, "breach_open")),
    ("ineffective for another cause does not hold this one", Memory(changes=(change(90, verdict="worse", cause="cpu_usage"), change(40, verdict="worse", cause="cpu_usage"))), ("scale_up", 8, "breach_open")),
    ("the lowest count wanted within the window up is taken", Memory(lowest_wanted=5), ("scale_up", 5, "breach_open")),
]  # fmt: skip


@pytest.mark.parametrize(("memory", "expected"), [pytest.param(*row[1:], id=row[0]) for row in PAST])
def test_the_past_holds_or_bounds_a_scale_up(memory: Memory, expected: tuple[str, int, str]) -> None:
    situation = facts(running(4), SLOW | {"routing_latency": reading(70.0, latest=400.0)}, (open_breach(value=400.0),))
    assert decided(RELAYCORE, situation, memory) == expected


def test_a_rule_is_held_as_ineffective_only_for_what_was_done_since_it_began_to_hold() -> None:
    past = (change(90, verdict="worse", breaches=()), change(40, verdict="worse", breaches=()))
    situation = facts(running(4), SLOW | {"routing_latency": 400.0})
    assert decided(RELAYCORE, situation, Memory(changes=past))[2] == "ineffective"
    again = Memory(changes=past, loud_since_s={"routing_latency": NOW_S - 20})
    assert decided(RELAYCORE, situation, again) == ("scale_up", 8, "rule_exceeded")


def test_a_breach_that_is_not_measured_here_must_speak_of_the_time_after_the_last_change() -> None:
    slow: dict[str, float | Reading] = {"cpu_usage": 0.7, "queue_length": 20.0, "memory_ratio": 0.5}
    past = Memory(changes=(change(40, target=3, cause="api_response_time"),))

    def situation(judged_s: float) -> Facts:
        breach = open_breach("api_response_time", 500.0, 200.0, system="autmatrix", judged_s=judged_s)
        return facts(running(3), slow, (breach,), service="autmatrix-backend")

    assert decided(AUTMATRIX, situation(NOW_S - 45), past)[2] == "awaiting_breach_update"
    assert decided(AUTMATRIX, situation(NOW_S - 2), past) == ("scale_up", 6, "breach_open")


@pytest.mark.parametrize(
    ("cause", "done_ago_s", "judged_ago_s", "expected"),
    [
        ("cpu_usage", 9, 1, ("scale_up", 8, "breach_open")),
        ("routing_latency", 9, 1, ("no_action", 4, "awaiting_effect")),
        ("cpu_usage", 9, 8, ("no_action", 4, "awaiting_effect")),
        ("cpu_usage", 4, 1, ("no_action", 4, "awaiting_effect")),
    ],
    ids=["another cause", "the same cause", "judged before it settled", "readings reach back too far"],
)
def test_only_a_breach_of_another_cause_does_not_wait_for_the_effect_of_the_last_change(
    cause: str, done_ago_s: float, judged_ago_s: float, expected: tuple[str, int, str]
) -> None:
    past = change(20, cause=cause, done_s=NOW_S - done_ago_s, verdict=None, breaches=())
    breach = open_breach(value=400.0, judged_s=NOW_S - judged_ago_s)
    situation = facts(running(4), SLOW | {"routing_latency": 400.0}, (breach,))
    assert decided(RELAYCORE, situation, Memory(changes=(past,))) == expected


def test_a_breach_at_its_very_limit_adds_one() -> None:
    breach = open_breach("api_response_time", 200.0, 200.0, system="autmatrix")
    situation = facts(running(3), {"cpu_usage": 0.7, "queue_length": 20.0}, (breach,), service="autmatrix-backend")
    assert decided(AUTMATRIX, situation) == ("scale_up", 4, "breach_open")


DOWN: list[tuple[str, Observation, dict[str, Any], Memory, tuple[str, int, str]]] = [
    ("idle for long enough goes to what the load needs", running(8), IDLE, idle_for(300), ("scale_down", 2, "idle")),
    ("idle, not yet for long enough", running(8), IDLE, idle_for(299), ("no_action", 8, "steady")),
    ("one condition not met", running(8), IDLE | {"cpu_usage": 0.26}, idle_for(900), ("no_action", 8, "steady")),
    ("one instance silent", running(8), IDLE | {"cpu_usage": reading(0.05, missing=1)}, idle_for(900), ("no_action", 8, "metrics_missing")),
    ("one metric missing", running(8), {"cpu_usage": 0.05}, idle_for(900), ("no_action", 8, "metrics_missing")),
    ("never below the minimum", running(2), IDLE, idle_for(900), ("no_action", 2, "steady")),
    ("projected: CPU of those left stays below 0.9 of its limit up", running(10), IDLE | {"cpu_usage": 0.24}, idle_for(900), ("scale_down", 4, "idle")),
    ("projected: the rate per replica too", running(10), IDLE | {"request_rate": 49.0}, idle_for(900), ("scale_down", 4, "idle")),
    ("the most wanted within the window is kept", running(8), IDLE, idle_for(900, highest_wanted=6), ("scale_down", 6, "idle")),
    ("as many wanted within the window as there are", running(8), IDLE, idle_for(900, highest_wanted=9), ("no_action", 8, "projected_overload")),
    ("a scale-up within the window forbids it", running(8), IDLE, idle_for(900, changes=(change(250),)), ("no_action", 8, "stabilizing")),
    ("not watched for the whole window forbids it", running(8), IDLE, Memory(idle_since_s=NOW_S - 900, watched_since_s=NOW_S - 200), ("no_action", 8, "stabilizing")),
    ("a replica still starting forbids it", running(8, 7, starting=1), IDLE, idle_for(900), ("no_action", 8, "not_all_ready")),
    ("an unhealthy replica forbids it", running(8, 7, unhealthy=1), IDLE, idle_for(900), ("no_action", 8, "not_all_ready")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "readings", "memory", "expected"), [pytest.param(*row[1:], id=row[0]) for row in DOWN]
)
def test_scaling_down(
    seen: Observation, readings: dict[str, Any], memory: Memory, expected: tuple[str, int, str]
) -> None:
    assert decided(RELAYCORE, facts(seen, readings), memory) == expected


def test_a_load_that_is_not_read_from_every_replica_forbids_a_scale_down_though_no_condition_names_it() -> None:
    rules = relaycore(down={"idle_for": 10, "all": [{"metric": "cpu_usage", "below": 0.25}]})
    assert decided(rules, facts(running(8), IDLE), idle_for(900)) == ("scale_down", 2, "idle")
    partial = IDLE | {"request_rate": reading(10.0, missing=6, reported=2)}
    assert decided(rules, facts(running(8), partial), idle_for(900)) == ("no_action", 8, "metrics_missing")


def test_an_absurd_value_asks_for_the_most_that_is_allowed() -> None:
    assert decided(RELAYCORE, facts(running(2), CALM | {"cpu_usage": 1e308})) == ("scale_up", 6, "rule_exceeded")


def test_an_open_breach_of_the_system_forbids_a_scale_down_though_it_drives_nothing() -> None:
    errors = open_breach("error_rate", 0.2, 0.01)
    assert decided(RELAYCORE, facts(running(8), IDLE, (errors,)), idle_for(900)) == ("no_action", 8, "breach_elsewhere")


def test_latency_nobody_could_measure_for_want_of_traffic_counts_as_low() -> None:
    quiet: dict[str, float | Reading] = {"cpu_usage": 0.02, "memory_ratio": 0.1, "response_time": Reading(idle=True)}
    situation = facts(running(4), quiet, service="autmatrix-backend")
    assert decided(AUTMATRIX, situation, idle_for(700)) == ("scale_down", 1, "idle")
    silent = facts(running(4), quiet | {"response_time": Reading()}, service="autmatrix-backend")
    assert decided(AUTMATRIX, silent, idle_for(700)) == ("no_action", 4, "metrics_missing")


def test_a_service_without_rules_says_what_it_would_want_and_stays() -> None:
    breach = open_breach("inference_latency", 4_000.0, 1_000.0, system="neuroweaver")
    decision = decide(NEUROWEAVER, facts(running(1), {}, (breach,), service="neuroweaver-backend"), Memory())
    assert (decision.action, decision.reason_code, decision.candidates[0].replicas) == (Action.NO_ACTION, "at_max", 2)


def test_a_target_that_cannot_be_observed_is_never_moved() -> None:
    situation = Facts(service="relaycore", now_s=NOW_S, unobserved="connection refused", breaches=(open_breach(),))
    decision = decide(RELAYCORE, situation, Memory())
    assert (decision.action, decision.reason_code) == (Action.NO_ACTION, "unobserved")
    assert "connection refused" in decision.reason


def test_a_decision_names_its_breaches_runs_candidates_and_clamps() -> None:
    situation = facts(running(2), SLOW | {"routing_latency": 400.0, "cpu_usage": 3.0}, (open_breach(value=400.0),))
    decision = decide(relaycore(max=5), situation, Memory())
    assert (decision.breaches, decision.runs, decision.cause) == (("b1",), ("run-1",), "cpu_usage")
    asked = {one.source: one.replicas for one in decision.candidates if one.holds}
    assert asked == {"rule:cpu_usage": 8, "rule:routing_latency": 4, "breach:routing_latency": 4}
    assert [(one.name, one.before, one.after) for one in decision.clamps] == [("rate", 8, 6), ("max", 6, 5)]


@pytest.mark.parametrize(
    ("readings", "breach", "past", "confidence"),
    [
        ({"cpu_usage": 1.5}, None, (), 1.0),
        ({"cpu_usage": reading(3.0, missing=1, reported=3)}, None, (), 0.75),
        ({"cpu_usage": 0.6, "routing_latency": 400.0}, None, (), 0.7),
        ({"cpu_usage": 0.6, "routing_latency": 400.0}, open_breach(confidence=0.9), (), 0.63),
        ({"cpu_usage": 1.0, "routing_latency": 400.0}, open_breach(), (change(90, verdict="worse"),), 0.5),
    ],
    ids=["load speaks", "a quarter is silent", "only latency", "the breach's own", "the last did not help"],
)
def test_confidence_is_what_the_evidence_leaves_of_one(
    readings: dict[str, Any], breach: OpenBreach | None, past: tuple[Any, ...], confidence: float
) -> None:
    situation = facts(running(4), readings, (breach,) if breach else ())
    decision = decide(RELAYCORE, situation, Memory(changes=past))
    assert decision.action is Action.SCALE_UP
    assert decision.confidence == pytest.approx(confidence)


def test_too_little_confidence_holds() -> None:
    situation = facts(running(4), {"routing_latency": 400.0}, (open_breach(confidence=0.4),))
    assert decided(relaycore(tuning={"min_confidence": 0.2}), situation) == ("scale_up", 8, "breach_open")
    assert decided(relaycore(tuning={"min_confidence": 0.9}), situation) == ("no_action", 4, "low_confidence")
