"""``why`` and ``rederive``: decisions in plain words, and made again from their records."""

from typing import Any

import pytest

from services.scaler.explanation import explain
from services.scaler.policy import decide
from services.scaler.records import Scribe
from services.scaler.rederivation import rederive
from services.scaler.situation import Facts, Memory, Reading
from shared.contracts.scaling import ScalingRecord
from tests.unit.scaler_cases import NOW_S, RELAYCORE, change, facts, idle_for, open_breach, running
from tests.unit.test_scaler_orders import in_force

SCRIBE = Scribe("relaycore", "local", RELAYCORE)
BUSY = facts(
    running(2, starting=1),
    {"cpu_usage": 0.9, "request_rate": Reading(value=80.0, latest=81.0, reported=1, missing=1, span_s=9)},
    (open_breach(),),
)


def recorded(situation: Facts, memory: Memory, dry_run: bool = False) -> ScalingRecord:
    decision = decide(RELAYCORE, situation, memory)
    record = SCRIBE.decision(decision, situation, memory, {}, name="relaycore-12", epoch=3, dry_run=dry_run)
    return ScalingRecord.model_validate_json(record.model_dump_json())


def test_a_move_is_told_with_all_it_was_made_of_and_what_came_of_it() -> None:
    made = change(1, ok=None, done_s=None, verdict=None)
    followed = [
        SCRIBE.result(made, NOW_S + 3, 3, ready=4),
        SCRIBE.effectiveness(made, NOW_S + 20, 3, "helped", "routing_latency went from 200 to 15", {}),
    ]
    text = "\n".join(explain(recorded(BUSY, Memory(changes=(change(600),), highest_wanted=3)), followed))
    for said in (
        "relaycore-12, decided at 2027-01-15 08:00:00 UTC by epoch 3, policy ",
        "decision    scale_up from 2 to 4 replicas",
        "because     routing_latency is 200, above 50: 2 → 4 replicas (breach_open)",
        "confidence  1.00",
        "replicas    2 of 2 ready, 1 starting; 2 to 20 are allowed",
        "cpu_usage 0.9, lately 0.9, over 9 s",
        "request_rate 80, lately 81, over 9 s, from 1 of its sources, 1 silent",
        "breaches    relaycore routing_latency 200 over 50 (target)",
        "3 replicas were needed at most within the stabilization window",
        "the last change: relaycore-600, 2 → 4 for routing_latency, 600 s ago, helped",
        "breach:routing_latency: 200, limit 50: asks for 4 (target breached)",
        "cpu_usage: 0.9, limit 0.75: asks for 3",
        "came of it  2027-01-15 08:00:03: 4 replicas ready, after 4 s",
        "2027-01-15 08:00:20: helped: routing_latency went from 200 to 15",
    ):
        assert said in text


@pytest.mark.parametrize(
    ("situation", "memory", "said"),
    [
        (facts(None), Memory(), ("hold at 0", "the target cannot be observed", "not observed", "none is open")),
        (facts(running(4)), in_force(None), ("hold at 4", "paused by ada until", "order       o1, of ada")),
        (
            facts(running(4), {"cpu_usage": 0.1, "request_rate": 5.0}),
            idle_for(100),
            ("hold at 4", "idle, but not yet for long enough", "idle for 100 s", "nothing was to come of it"),
        ),
        (
            facts(running(4), {"routing_latency": Reading(idle=True), "cpu_usage": Reading(missing=4)}),
            Memory(),
            ("routing_latency has no value, as nobody asked", "cpu_usage has no value, 4 silent"),
        ),
    ],
    ids=["unobserved", "paused", "idle", "silent"],
)
def test_that_nothing_was_done_is_told_too(situation: Facts, memory: Memory, said: tuple[str, ...]) -> None:
    text = "\n".join(explain(recorded(situation, memory), []))
    assert [one for one in said if one not in text] == []


def test_bounds_and_a_dry_run_are_told() -> None:
    huge = facts(running(2), {"cpu_usage": 9.0})
    text = "\n".join(explain(recorded(huge, Memory(), dry_run=True), []))
    assert "scale_up from 2 to 6 replicas, as a dry run: nothing is moved" in text
    assert "bounds      rate: 24 → 6, the most that may be added at once" in text


def test_a_record_whose_situation_is_no_longer_known_is_told_all_the_same() -> None:
    record = recorded(BUSY, Memory()).model_copy(update={"inputs": {}})
    assert any("still known" in line for line in explain(record, []))


@pytest.mark.parametrize(
    ("situation", "memory"),
    [(BUSY, Memory(changes=(change(90, verdict="worse"),))), (facts(None), Memory()), (facts(running(4)), in_force())],
    ids=["a move", "a hold", "an order"],
)
def test_a_decision_made_again_is_the_same(situation: Facts, memory: Memory) -> None:
    again = rederive(recorded(situation, memory))
    assert (again.same, again.differences, again.explained) == (True, {}, False)


@pytest.mark.parametrize(
    ("values", "different", "explained"),
    [({"target": 5}, ["target"], False), ({"reason": "another", "policy_version": "0:abc"}, ["reason"], True)],
    ids=["another target", "of another policy"],
)
def test_what_comes_out_otherwise_is_told(values: dict[str, Any], different: list[str], explained: bool) -> None:
    again = rederive(recorded(BUSY, Memory()).model_copy(update=values))
    assert (list(again.differences), again.same, again.explained) == (different, False, explained)


def test_a_record_without_its_inputs_cannot_be_made_again() -> None:
    again = rederive(recorded(BUSY, Memory()).model_copy(update={"inputs": {}}))
    assert (again.same, again.problem) == (False, "its record has no rules to decide on")
