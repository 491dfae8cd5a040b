"""The demo's story is told only when it happened."""

from typing import Any

import pytest

from services.console.story import Evidence, ScaleUp, Speed, check_story, list_scale_ups
from shared.contracts.breach import Breach, BreachStatus
from shared.contracts.scaling import Action
from tests.unit.console_cases import breach, record, report, result

RECOVERED = breach(BreachStatus.RESOLVED, resolved_s=35)
MOVE = ScaleUp(record(), record("result"))
WHOLE: dict[str, Any] = {
    "report": report(results=[result("look", 10), result("leap", 5)]),
    "breaches": [RECOVERED],
    "scaling": [record(), record("result", at_s=14)],
    "counted": {("autmatrix", "small/look"): 10, ("autmatrix", "small/leap"): 5},
    "speeds": [Speed(MOVE, 2200.0, 1100.0)],
    "trace_id": "ab" * 16,
}
BREACH, SCALE_UP, SPEED, COUNTS, TRACE = range(5)


def test_the_whole_story_is_told_with_what_was_seen() -> None:
    parts = check_story(Evidence(**WHOLE))
    assert all(part.happened for part in parts)
    assert [part.seen for part in parts] == [
        "relaycore routing_latency for 25 s",
        "relaycore 2 → 4",
        "relaycore 2 → 4: 2.20 s → 1.10 s",
        "sent 15, stored 15, counted 15, missing 0",
        "ab" * 16,
    ]


@pytest.mark.parametrize(
    ("changes", "part", "seen"),
    [
        ({"breaches": []}, BREACH, "none opened"),
        ({"breaches": [breach()]}, BREACH, "1 opened, none of them resolved before the run's end"),
        (
            {"breaches": [breach(BreachStatus.RESOLVED, resolved_s=60)]},
            BREACH,
            "1 opened, none of them resolved before the run's end",
        ),
        ({"scaling": []}, SCALE_UP, "no replica was added"),
        ({"scaling": [record()]}, SCALE_UP, "no replica was added"),
        (
            {"scaling": [record(), record("result", ok=False, error="409 older epoch")]},
            SCALE_UP,
            "the target refused: 409 older epoch",
        ),
        ({"scaling": [record(action=Action.SCALE_DOWN), record("result")]}, SCALE_UP, "no replica was added"),
        ({"speeds": []}, SPEED, "too few workflows ended around a scale-up to say"),
        ({"speeds": [Speed(MOVE, None, 900.0)]}, SPEED, "too few workflows ended around a scale-up to say"),
        ({"speeds": [Speed(MOVE, 900.0, 900.0)]}, SPEED, "relaycore 2 → 4: 900 ms → 900 ms"),
        ({"trace_id": None}, TRACE, "none was found in the store"),
    ],
    ids=str,
)
def test_a_part_that_did_not_happen_is_named_alone(changes: dict[str, Any], part: int, seen: str) -> None:
    parts = check_story(Evidence(**{**WHOLE, **changes}))
    assert [index for index, told in enumerate(parts) if not told.happened] == [part]
    assert parts[part].seen == seen


@pytest.mark.parametrize(
    ("results", "counted", "said"),
    [
        ([result("look", 10, missing=1, stored=9)], {("autmatrix", "small/look"): 10}, "missing 1"),
        ([result("look", 10, stored=11)], {("autmatrix", "small/look"): 10}, "stored 11"),
        ([result("look", 10)], {("autmatrix", "small/look"): 9}, "autmatrix small/look: sent 10, counted 9"),
        ([result("look", 10)], {}, "autmatrix small/look: sent 10, counted 0"),
        (
            [result("look", 10)],
            {("autmatrix", "small/look"): 10, ("relaycore", "small/stray"): 3},
            "relaycore small/stray: sent 0, counted 3",
        ),
        ([], {}, "sent 0"),
    ],
    ids=["missing", "twice", "counted fewer", "not counted", "stray", "nothing sent"],
)
def test_counts_that_differ_are_told_with_the_action(results: list[Any], counted: Any, said: str) -> None:
    told = check_story(Evidence(**{**WHOLE, "report": report(results=results), "counted": counted}))[COUNTS]
    assert not told.happened
    assert said in told.seen


def test_the_best_of_several_scale_ups_tells_the_gain() -> None:
    speeds = [Speed(MOVE, 900.0, 950.0), Speed(MOVE, 800.0, 500.0)]
    told = check_story(Evidence(**{**WHOLE, "speeds": speeds}))[SPEED]
    assert told.happened
    assert told.seen == "relaycore 2 → 4: 800 ms → 500 ms"


def test_scale_ups_come_in_the_order_they_were_carried_out() -> None:
    records = [
        record(decision="late"),
        record(decision="early"),
        record(decision="never"),
        record("result", "late", at_s=40),
        record("result", "early", at_s=20),
        record("effectiveness", "early", verdict="helped"),
    ]
    assert [move.decision.decision for move in list_scale_ups(records)] == ["early", "late"]


def test_an_open_breach_beside_a_recovered_one_does_not_spoil_the_story() -> None:
    breaches: list[Breach] = [breach(breach="b2"), RECOVERED]
    assert check_story(Evidence(**{**WHOLE, "breaches": breaches}))[BREACH].happened
