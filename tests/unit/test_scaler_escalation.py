"""When a loop that does not help ends, when it begins again, and what of it the chain tells after a restart."""

# ruff: noqa: E501 - one case per line, so that a table can be read down its columns

from typing import Any

import pytest

from services.scaler.candidates import weigh
from services.scaler.effect import ERROR_RATE, REQUEST_RATE, judge
from services.scaler.escalation import Turn, due
from services.scaler.history import escalations_of
from services.scaler.policy import decide
from services.scaler.records import Scribe
from services.scaler.situation import Change, Demand, Escalation, Facts, Memory, OpenBreach, Reading
from shared.contracts.scaling import Action, ScalingRecord
from shared.contracts.scaling_rules import ServiceRules
from tests.unit.scaler_cases import NOW_S, RELAYCORE, change, facts, open_breach, relaycore, running

LOUD: dict[str, float | Reading] = {
    "cpu_usage": 0.5,
    "request_rate": 80.0,
    "queue_length": 9.0,
    "routing_latency": 400.0,
}
CALM: dict[str, float | Reading] = LOUD | {"routing_latency": 20.0, "queue_length": 0.0}
TWICE = (change(90, verdict="worse"), change(40, verdict="no_effect"))
RULED = tuple(one.model_copy(update={"breaches": ()}) for one in TWICE)
GIVEN_UP = Escalation(cause="routing_latency", decision="relaycore-40", at_s=NOW_S - 20)
WATCHED: dict[str, Any] = {"watched_since_s": NOW_S - 60}


def turned(
    rules: ServiceRules = RELAYCORE,
    readings: dict[str, Any] = LOUD,
    breaches: tuple[OpenBreach, ...] = (),
    memory: Memory | None = None,
    **more: Any,
) -> list[tuple[str, bool]]:
    situation = facts(running(4), readings, breaches).model_copy(update=more)
    memory = memory or Memory()
    found = due(rules, situation, memory, weigh(rules, situation))
    return [(turn.escalation.cause, turn.over) for turn in found]


BEGINS: list[tuple[str, ServiceRules, tuple[Change, ...], tuple[OpenBreach, ...], bool]] = [
    ("nothing was tried", RELAYCORE, (), (), False),
    ("once without effect", RELAYCORE, RULED[1:], (), False),
    ("twice without effect for a rule", RELAYCORE, RULED, (), True),
    ("twice for one breach", RELAYCORE, TWICE, (open_breach(value=400.0),), True),
    ("twice, for an earlier breach", RELAYCORE, tuple(one.model_copy(update={"breaches": ("b0",)}) for one in TWICE), (open_breach(value=400.0),), True),
    ("once, where once is enough", relaycore(tuning={"effectiveness": {"on_no_effect": "escalate"}}), RULED[1:], (), True),
    ("once no effect, where only worse is enough", relaycore(tuning={"effectiveness": {"on_worse": "escalate"}}), RULED[1:], (), False),
    ("three are needed", relaycore(tuning={"effectiveness": {"hold_after": 3}}), RULED, (), False),
    ("what was undone counts, the undoing does not", RELAYCORE, (*RULED, change(20, action=Action.SCALE_DOWN, cause="rollback", reverses="relaycore-40", verdict="no_effect")), (), True),
    ("one that helped since", RELAYCORE, (*RULED, change(20, breaches=())), (), False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "past", "breaches", "expected"), [pytest.param(*row[1:], id=row[0]) for row in BEGINS]
)
def test_a_loop_that_does_not_help_ends_once(
    rules: ServiceRules, past: tuple[Change, ...], breaches: tuple[OpenBreach, ...], expected: bool
) -> None:
    assert turned(rules, breaches=breaches, memory=Memory(changes=past)) == [("routing_latency", False)] * expected
    known = Memory(changes=past, escalations=(GIVEN_UP,))
    assert turned(rules, breaches=breaches, memory=known) == []


def test_the_escalation_says_what_was_tried() -> None:
    situation = facts(running(4), LOUD)
    [turn] = due(RELAYCORE, situation, Memory(changes=RULED), weigh(RELAYCORE, situation))
    words = "routing_latency is 400, above 75, and scaling does not help: 2 → 4 worse, 2 → 4 no_effect"
    assert (turn.reason, turn.escalation.decision) == (words, "relaycore-40")


def test_what_sizing_asks_for_is_told_beside_what_all_replicas_carry() -> None:
    rules = relaycore(up=(), breaches=(), sizing={"concurrency": 8, "utilization": 0.5})
    demand = Demand(stable=60.0, panic=60.0, rate=60.0, forecast=60.0, service_s=0.5)
    situation = facts(running(4), {}).model_copy(update={"demand": demand})
    past = tuple(one.model_copy(update={"cause": "sizing"}) for one in RULED)
    [turn] = due(rules, situation, Memory(changes=past), weigh(rules, situation))
    assert turn.reason.startswith("sizing is 30, above 16, and scaling does not help")


ENDS: list[tuple[str, Escalation, dict[str, Any], tuple[OpenBreach, ...], dict[str, Any], dict[str, Any], bool]] = [
    ("it goes on while the rule holds", GIVEN_UP, LOUD, (), WATCHED, {}, False),
    ("it goes on through a short pause", GIVEN_UP, CALM, (), WATCHED | {"loud_since_s": {"routing_latency": NOW_S - 50}}, {}, False),
    ("it is over when the cause is", GIVEN_UP, CALM, (), WATCHED, {}, True),
    ("nothing is over right after a start", GIVEN_UP, CALM, (), {"watched_since_s": NOW_S - 5}, {}, False),
    ("nothing is over while nothing is seen", GIVEN_UP, CALM, (), WATCHED, {"observation": None}, False),
    ("an operator may say so", GIVEN_UP, LOUD, (), WATCHED | {"resumed_s": NOW_S - 1}, {}, True),
    ("an operator's word from before does not count", GIVEN_UP, LOUD, (), WATCHED | {"resumed_s": NOW_S - 30}, {}, False),
    ("its breach is still open", GIVEN_UP.model_copy(update={"breaches": ("b1",)}), CALM, (open_breach(),), WATCHED, {}, False),
    ("its breach is resolved", GIVEN_UP.model_copy(update={"breaches": ("b0",)}), CALM, (open_breach(),), WATCHED, {}, True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("escalation", "readings", "breaches", "memory", "more", "over"),
    [pytest.param(*row[1:], id=row[0]) for row in ENDS],
)
def test_an_escalation_is_over_with_its_episode_or_by_an_operators_word(
    escalation: Escalation,
    readings: dict[str, Any],
    breaches: tuple[OpenBreach, ...],
    memory: dict[str, Any],
    more: dict[str, Any],
    over: bool,
) -> None:
    known = Memory(changes=TWICE, escalations=(escalation,), **memory)
    assert turned(readings=readings, breaches=breaches, memory=known, **more) == [("routing_latency", True)] * over


def test_while_it_is_escalated_nothing_is_tried_and_afterwards_it_may_be_again() -> None:
    situation = facts(running(4), LOUD)
    held = decide(RELAYCORE, situation, Memory(escalations=(GIVEN_UP,)))
    assert (held.action, held.reason_code) == (Action.NO_ACTION, "ineffective")
    assert held.recommendation
    over = GIVEN_UP.model_copy(update={"over_s": NOW_S - 1})
    again = decide(RELAYCORE, situation, Memory(changes=RULED, escalations=(over,)))
    assert again.action is Action.SCALE_UP
    hot = facts(running(4), LOUD | {"cpu_usage": 1.5})
    assert decide(RELAYCORE, hot, Memory(escalations=(GIVEN_UP,))).cause == "cpu_usage"


SCRIBE = Scribe("relaycore", "local", RELAYCORE)


def raised(at_s: float, cause: str = "routing_latency", over: bool = False) -> ScalingRecord:
    escalation = Escalation(cause=cause, decision="relaycore-1", at_s=at_s, breaches=("b1",))
    return SCRIBE.escalation(Turn(escalation, "why", over=over), at_s, 1)


def said(memory: Memory) -> ScalingRecord:
    situation: Facts = facts(running(4), CALM)
    return SCRIBE.decision(
        decide(RELAYCORE, situation, memory), situation, memory, {}, name="relaycore-9", epoch=1, dry_run=False
    )


def test_escalations_are_rebuilt_from_the_chain_and_from_the_decisions_that_knew_of_older_ones() -> None:
    begun, other = raised(NOW_S - 50), raised(NOW_S - 40, "cpu_usage")
    [one] = escalations_of([begun])
    assert one == Escalation(cause="routing_latency", decision="relaycore-1", at_s=NOW_S - 50, breaches=("b1",))
    both = escalations_of([begun, other, raised(NOW_S - 10, over=True)])
    assert [(esc.cause, esc.over_s) for esc in both] == [("routing_latency", NOW_S - 10), ("cpu_usage", None)]
    assert escalations_of([said(Memory(escalations=(one,)))]) == (one,)
    later = escalations_of([said(Memory(escalations=(one,))), raised(NOW_S, over=True)])
    assert [esc.over_s for esc in later] == [NOW_S]


def load(
    before: float, after: float, expected: float, rates: tuple[float, float] = (100.0, 100.0)
) -> tuple[Change, dict[str, float]]:
    made = change(
        cause="cpu_usage",
        limit=0.75,
        before={"cpu_usage": before, REQUEST_RATE: rates[0]},
        expected={"cpu_usage": expected},
    )
    return made, {"cpu_usage": after, REQUEST_RATE: rates[1]}


EXPECTED: list[tuple[str, tuple[Change, dict[str, float]], str]] = [
    ("it came as expected", load(1.0, 0.5, 0.5), "helped"),
    ("half of it came", load(2.0, 1.5, 1.0), "helped"),
    ("less than half of it came", load(2.0, 1.6, 1.0), "no_effect"),
    ("it came within its limit", load(0.9, 0.74, 0.45), "helped"),
    ("a small step that did what it could", load(2.0, 1.85, 1.7), "helped"),
    ("too small a step to tell", load(2.0, 1.95, 1.9), "unknown"),
    ("too small a step, and it rose", load(2.0, 2.3, 1.9), "worse"),
    ("it fell only as the load did", load(2.0, 1.4, 1.0, (100.0, 70.0)), "no_effect"),
    ("it fell by more than the load did", load(2.0, 0.9, 1.0, (100.0, 70.0)), "helped"),
    ("the load rose", load(1.0, 1.0, 0.5, (100.0, 150.0)), "unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("made", "verdict"), [pytest.param(*row[1:], id=row[0]) for row in EXPECTED])
def test_a_load_is_held_against_what_was_expected_of_it(made: tuple[Change, dict[str, float]], verdict: str) -> None:
    assert judge(*made, {}, RELAYCORE.tuning.effectiveness, {"routing_latency": 75.0})[0] == verdict


@pytest.mark.parametrize(
    ("action", "before", "after", "verdict"),
    [
        (Action.SCALE_UP, 0.0, 0.03, "worse"),
        (Action.SCALE_UP, 0.0, 0.02, "helped"),
        (Action.SCALE_UP, 0.3, 0.2, "helped"),
        (Action.SCALE_DOWN, 0.0, 0.03, "worse"),
        (Action.SCALE_DOWN, 0.0, 0.01, "no_effect"),
    ],
)
def test_requests_that_fail_at_once_are_no_gain(action: Action, before: float, after: float, verdict: str) -> None:
    made = change(action=action, before={"routing_latency": 200.0, REQUEST_RATE: 100.0, ERROR_RATE: before})
    measured = {"routing_latency": 50.0, REQUEST_RATE: 100.0, ERROR_RATE: after}
    assert judge(made, measured, {}, RELAYCORE.tuning.effectiveness, {"routing_latency": 75.0})[0] == verdict


@pytest.mark.parametrize(("after", "verdict"), [(74.0, "no_effect"), (76.0, "worse")])
def test_a_scale_down_may_cost_time_within_the_limit(after: float, verdict: str) -> None:
    before = {"routing_latency": 20.0, "p95_ms.relaycore": 30.0}
    down = change(action=Action.SCALE_DOWN, before=before, cause="idle")
    measured = {"routing_latency": after, "p95_ms.relaycore": 90.0}
    assert judge(down, measured, {}, RELAYCORE.tuning.effectiveness, {"routing_latency": 75.0})[0] == verdict
