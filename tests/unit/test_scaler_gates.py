"""What keeps everything where it is, what is told instead, and what a decision expects, as tables."""

# ruff: noqa: E501 - one case per line, so that a table can be read down its columns

import re
from pathlib import Path
from typing import Any

import pytest

from services.scaler.advice import ADVICE
from services.scaler.policy import decide
from services.scaler.situation import Memory, Observation, OpenBreach, Reading
from shared.contracts.scaling import REFUSALS, Action
from shared.settings import PROJECT_ROOT
from tests.unit.scaler_cases import (
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

FLAT: dict[str, float | Reading] = {
    "cpu_usage": 0.1,
    "request_rate": 90.0,
    "queue_length": 0.2,
    "routing_latency": 20.0,
}
IDLE: dict[str, float | Reading] = {"cpu_usage": 0.05, "request_rate": 2.0, "routing_latency": Reading(idle=True)}
HOT: dict[str, float | Reading] = FLAT | {"cpu_usage": 2.0}
PENDING = change(20, ok=None, done_s=None, verdict=None)

GATES: list[tuple[str, Observation, Memory, str]] = [
    ("stopped by somebody", running(0), Memory(), "stopped"),
    ("a rollout is under way", running(4, updating=True), Memory(), "updating"),
    ("one replica in a crash loop", running(4, 3, unhealthy=1, restarting=1), Memory(), "crash_looping"),
    ("a crash loop of a change under way", running(4, 3, unhealthy=1, restarting=1), Memory(changes=(PENDING,)), "crash_looping"),
    ("a rollout that crashes is a rollout first", running(4, 2, unhealthy=2, restarting=2, updating=True), Memory(), "updating"),
    ("a change under way", running(4, 3, starting=1), Memory(changes=(PENDING,)), "awaiting_ready"),
    ("a third is unhealthy", running(3, 1, unhealthy=2), Memory(), "unhealthy"),
    ("below the minimum, in a crash loop", running(1, 0, unhealthy=1, restarting=1), Memory(), "crash_looping"),
]  # fmt: skip


@pytest.mark.parametrize("readings", [HOT, IDLE], ids=["hot", "idle"])
@pytest.mark.parametrize(("seen", "memory", "code"), [pytest.param(*row[1:], id=row[0]) for row in GATES])
def test_a_closed_gate_lets_nothing_move_whatever_the_metrics_say(
    seen: Observation, memory: Memory, code: str, readings: dict[str, Any]
) -> None:
    past = idle_for(900, changes=memory.changes)
    decision = decide(RELAYCORE, facts(seen, readings, (open_breach(value=900.0),)), past)
    assert (decision.action, decision.target, decision.reason_code) == (Action.NO_ACTION, seen.desired, code)
    assert decision.recommendation == ADVICE.get(code, "")


def test_one_unhealthy_of_four_is_below_the_share_that_holds_everything() -> None:
    decision = decide(RELAYCORE, facts(running(4, 3, unhealthy=1), HOT), Memory())
    assert decision.action is Action.SCALE_UP


def test_every_reason_code_stands_in_the_guide() -> None:
    """As the code writes them: ``case.hold("code"``, a pair of code and words, the fourth argument of a decision."""
    root = Path(PROJECT_ROOT)
    text = "\n".join(path.read_text() for path in sorted((root / "services" / "scaler").glob("*.py")))
    codes = set(re.findall(r"hold\(\s*\"(\w+)\"", text)) | set(ADVICE) | set(REFUSALS)
    codes |= set(re.findall(r"Action\.SCALE_(?:UP|DOWN), \w[\w.]*, \w+, \"(\w+)\"", text))
    guide = (root / "docs" / "scaling.md").read_text()
    assert len(codes) > 25
    assert [code for code in sorted(codes) if f"`{code}`" not in guide] == []


ERRORS = open_breach("error_rate", 0.05, 0.005)
ERROR_CASES: list[tuple[str, dict[str, Any], tuple[OpenBreach, ...], str]] = [
    ("errors while nothing is busy", FLAT, (ERRORS,), "errors_not_load"),
    ("errors while nothing is busy and idle for long", FLAT | {"request_rate": 5.0}, (ERRORS,), "errors_not_load"),
    ("errors while requests wait", FLAT | {"queue_length": 4.0}, (ERRORS,), "steady"),
    ("errors while the CPU is busy", FLAT | {"cpu_usage": 0.5}, (ERRORS,), "steady"),
    ("errors while the CPU is at its limit are no reason not to help", HOT, (ERRORS,), "rule_exceeded"),
    ("errors while the line is not known", {name: FLAT[name] for name in ("cpu_usage", "request_rate")}, (ERRORS,), "steady"),
    ("errors of another system", FLAT, (open_breach("error_rate", 0.05, 0.005, system="autmatrix"),), "steady"),
    ("errors beside a latency that is not load", FLAT | {"routing_latency": 200.0}, (open_breach(), ERRORS), "not_load_related"),
]  # fmt: skip


@pytest.mark.parametrize(("readings", "breaches", "code"), [pytest.param(*row[1:], id=row[0]) for row in ERROR_CASES])
def test_errors_without_load_are_told_and_never_scaled_on(
    readings: dict[str, Any], breaches: tuple[OpenBreach, ...], code: str
) -> None:
    decision = decide(RELAYCORE, facts(running(4), readings, breaches), Memory())
    assert decision.reason_code == code
    assert decision.recommendation == ADVICE.get(code, "")
    assert (decision.action is Action.NO_ACTION) is (code != "rule_exceeded")


def test_the_hold_for_errors_says_how_many_fail_and_how_idle_it_is() -> None:
    decision = decide(RELAYCORE, facts(running(4), FLAT, (ERRORS,)), Memory())
    assert decision.reason == "5.0% of requests fail while the CPU is at 10% and nobody waits: replicas do not lack"


@pytest.mark.parametrize(
    ("readings", "memory", "expected"),
    [
        (FLAT | {"cpu_usage": 1.5}, Memory(), {"cpu_usage": 0.75}),
        (FLAT | {"queue_length": 30.0, "routing_latency": 900.0}, Memory(), {"routing_latency": 75.0}),
        (IDLE, idle_for(900), {"request_rate": 4.0, "cpu_usage": 0.1}),
        (FLAT, Memory(), {}),
    ],
    ids=["a load is shared by more", "a latency comes within its limit", "a load is shared by fewer", "nothing moves"],
)
def test_a_decision_says_what_it_expects(readings: dict[str, Any], memory: Memory, expected: dict[str, float]) -> None:
    assert decide(RELAYCORE, facts(running(4), readings), memory).expected == expected


# What follows a change by its verdict and the policy of the service.

SLOW: dict[str, float | Reading] = {
    "cpu_usage": 0.45,
    "request_rate": 80.0,
    "queue_length": 0.2,
    "routing_latency": 90.0,
}
MADE = change(40, current=2, target=4)
DOWN = change(40, action=Action.SCALE_DOWN, current=6, target=4, cause="idle")

UNDONE: list[tuple[str, dict[str, str], Any, Observation, dict[str, Any], tuple[str, int, str]]] = [
    ("worse is rolled back by default", {}, {"verdict": "worse"}, running(4), SLOW, ("scale_down", 3, "rollback")),
    ("no effect stays by default", {}, {"verdict": "no_effect"}, running(4), SLOW, ("scale_up", 5, "rule_exceeded")),
    ("no effect is rolled back where asked", {"on_no_effect": "rollback"}, {"verdict": "no_effect"}, running(4), SLOW, ("scale_down", 3, "rollback")),
    ("worse stays where asked", {"on_worse": "hold"}, {"verdict": "worse"}, running(4), SLOW, ("scale_up", 5, "rule_exceeded")),
    ("worse ends the loop where asked", {"on_worse": "escalate"}, {"verdict": "worse"}, running(4), SLOW, ("no_action", 4, "ineffective")),
    ("what helped stays", {}, {"verdict": "helped"}, running(4), SLOW, ("scale_up", 5, "rule_exceeded")),
    ("what nobody knows stays", {}, {"verdict": "unknown"}, running(4), SLOW, ("scale_up", 5, "rule_exceeded")),
    ("never below what the load needs", {}, {"verdict": "worse"}, running(4), SLOW | {"cpu_usage": 0.6}, ("scale_up", 5, "rule_exceeded")),
    ("to the count before where the load is low", {}, {"verdict": "worse"}, running(4), SLOW | {"cpu_usage": 0.2, "request_rate": 20.0}, ("scale_down", 2, "rollback")),
    ("not while requests wait", {}, {"verdict": "worse"}, running(4), SLOW | {"queue_length": 3.0}, ("scale_up", 5, "rule_exceeded")),
    ("not while a load is not read", {}, {"verdict": "worse"}, running(4), SLOW | {"cpu_usage": Reading()}, ("scale_up", 5, "rule_exceeded")),
    ("not while a load is not read from every replica", {}, {"verdict": "worse"}, running(4), SLOW | {"cpu_usage": reading(0.2, missing=1, reported=3)}, ("scale_up", 5, "rule_exceeded")),
    ("not while one is starting", {}, {"verdict": "worse"}, running(4, 3, starting=1), SLOW, ("no_action", 4, "starting")),
    ("not where somebody moved it since", {}, {"verdict": "worse"}, running(5), SLOW, ("scale_up", 6, "rule_exceeded")),
    ("not within the cool-down", {}, {"verdict": "worse", "at_s": NOW_S - 8}, running(4), SLOW, ("no_action", 4, "cooldown")),
    ("not long after", {}, {"verdict": "worse", "at_s": NOW_S - 400, "done_s": NOW_S - 390}, running(4), SLOW, ("scale_up", 5, "rule_exceeded")),
    ("not a rollback again", {}, {"verdict": "worse", "reverses": "x", "cause": "rollback"}, running(4), SLOW, ("scale_up", 5, "rule_exceeded")),
    ("not what was only said", {}, {"verdict": "worse", "dry_run": True}, running(4), SLOW, ("scale_up", 5, "rule_exceeded")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "more", "seen", "readings", "expected"), [pytest.param(*row[1:], id=row[0]) for row in UNDONE]
)
def test_a_scale_up_without_effect_is_kept_or_undone_as_the_rules_say(
    policy: dict[str, str], more: Any, seen: Observation, readings: dict[str, Any], expected: tuple[str, int, str]
) -> None:
    rules = relaycore(tuning={"effectiveness": policy})
    made = MADE.model_copy(update={"breaches": (), **more})
    decision = decide(rules, facts(seen, readings), Memory(changes=(made,)))
    assert (decision.action.value, decision.target, decision.reason_code) == expected
    if expected[2] == "rollback":
        assert (decision.reverses, decision.cause) == (made.decision, "rollback")


def test_a_scale_down_that_made_it_worse_is_undone_as_far_as_there_is_room() -> None:
    worse = Memory(changes=(DOWN.model_copy(update={"verdict": "worse"}),))
    decision = decide(RELAYCORE, facts(running(4), SLOW), worse)
    assert (decision.action, decision.target, decision.reason_code) == (Action.SCALE_UP, 6, "rollback")
    tight = decide(RELAYCORE, facts(running(4), SLOW).model_copy(update={"room": 1}), worse)
    assert (tight.action, tight.target) == (Action.SCALE_UP, 5)
    good = Memory(changes=(DOWN.model_copy(update={"verdict": "no_effect"}),))
    assert decide(RELAYCORE, facts(running(4), SLOW), good).reason_code == "rule_exceeded"


def test_a_rollback_that_the_target_did_not_take_is_tried_again_after_the_cool_down() -> None:
    made = change(40, current=2, target=4, verdict="worse", breaches=(), decision="up")
    back = change(
        20, action=Action.SCALE_DOWN, current=4, target=2, cause="rollback", reverses="up", ok=False, verdict=None
    )
    calm = SLOW | {"cpu_usage": 0.2, "request_rate": 20.0}
    decision = decide(RELAYCORE, facts(running(4), calm), Memory(changes=(made, back)))
    assert (decision.action, decision.target, decision.reverses) == (Action.SCALE_DOWN, 2, "up")
    just_now = back.model_copy(update={"at_s": NOW_S - 5})
    assert decide(RELAYCORE, facts(running(4), calm), Memory(changes=(made, just_now))).reason_code == "cooldown"
    done = back.model_copy(update={"ok": True, "verdict": "no_effect"})
    assert decide(RELAYCORE, facts(running(4), calm), Memory(changes=(made, done))).reverses == ""


def test_what_was_undone_is_not_tried_again_within_the_stabilization_window() -> None:
    undone = change(40, current=2, target=4, verdict="worse", breaches=(), decision="up")
    back = change(
        20, action=Action.SCALE_DOWN, current=4, target=2, cause="rollback", reverses="up", verdict="no_effect"
    )
    past = Memory(changes=(undone, back))
    assert decide(RELAYCORE, facts(running(2), SLOW), past).reason_code == "rolled_back"
    assert decide(RELAYCORE, facts(running(2), SLOW | {"cpu_usage": reading(2.0)}), past).action is Action.SCALE_UP
    later = facts(running(2), SLOW, now_s=NOW_S + 290)
    assert decide(RELAYCORE, later, past).reason_code == "rule_exceeded"


def test_what_was_undone_in_vain_is_made_again_at_once_and_not_undone_again() -> None:
    undone = change(60, current=2, target=4, verdict="worse", breaches=(), decision="up")
    back = change(40, action=Action.SCALE_DOWN, current=4, target=2, cause="rollback", reverses="up", verdict="worse")
    again = decide(RELAYCORE, facts(running(2), SLOW), Memory(changes=(undone, back)))
    assert (again.action, again.reason_code, again.confidence) == (Action.SCALE_UP, "rule_exceeded", 0.7)
    made = change(20, current=2, target=4, verdict="worse", breaches=(), decision="again")
    past = Memory(changes=(undone, back, made))
    assert decide(RELAYCORE, facts(running(4), SLOW), past).reason_code == "rule_exceeded"
    more = made.model_copy(update={"current": 4, "target": 12})
    less = decide(
        RELAYCORE,
        facts(running(12), SLOW | {"cpu_usage": 0.1, "request_rate": 10.0}),
        Memory(changes=(undone, back, more)),
    )
    assert (less.target, less.reverses) == (4, "again")
    failed, busy = back.model_copy(update={"ok": False, "verdict": None}), SLOW | {"cpu_usage": 0.6}
    assert decide(RELAYCORE, facts(running(4), busy), Memory(changes=(undone, failed))).reason_code == "rule_exceeded"
    long_ago = undone.model_copy(update={"at_s": NOW_S - 900}), back.model_copy(update={"at_s": NOW_S - 880})
    past = Memory(changes=(*long_ago, made))
    assert decide(RELAYCORE, facts(running(4), SLOW), past).reason_code == "rollback"
