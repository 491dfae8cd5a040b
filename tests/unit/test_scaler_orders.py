"""What operators ask: heard once, taken within the limits, in force until it is over, and first among the gates."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from services.scaler.history import changes_of
from services.scaler.orders import HeardOrder, Orders, Standing, refusal, standing_of
from services.scaler.policy import decide
from services.scaler.records import Scribe, replay_inputs
from services.scaler.situation import Memory, Order
from shared.contracts.scaling import Action
from shared.contracts.scaling_orders import LONGEST, ScalingOrder
from tests.unit.scaler_cases import NOW_S, RELAYCORE, change, facts, open_breach, relaycore, running

NOW = datetime.fromtimestamp(NOW_S, tz=UTC)
SCRIBE = Scribe("relaycore", "local", RELAYCORE)


def asked(kind: str = "set", name: str = "o1", **more: Any) -> ScalingOrder:
    fields: dict[str, Any] = {
        "id": name, "environment": "local", "service": "relaycore", "kind": kind, "by": "ada", "reason": "launch",
        "at": NOW,
    }  # fmt: skip
    if kind == "set":
        fields |= {"replicas": 5, "expires_at": NOW + timedelta(minutes=30)}
    return ScalingOrder.model_validate({**fields, **more})


def in_force(replicas: int | None = 5, **more: Any) -> Memory:
    order = Order(id="o1", replicas=replicas, until_s=NOW_S + 1800, by="ada", reason="launch")
    return Memory(order=order, **more)


def test_an_order_delivered_or_published_again_is_heard_once() -> None:
    heard = Orders()
    assert heard.add("replicas", 3, asked())
    assert not heard.add("replicas", 3, asked())
    assert not heard.add("replicas", 4, asked())
    assert heard.add("replicas", 5, asked("resume", "o2"))
    assert [one.position for one in heard.after("relaycore", "replicas", 0)] == [3, 5]
    assert [one.position for one in heard.after("relaycore", "replicas", 3)] == [5]
    assert heard.after("relaycore", "sizes", 0) == heard.after("autmatrix", "replicas", 0) == []


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (asked(), ""),
        (asked(replicas=20), ""),
        (asked(replicas=21), "21 is above the maximum of 20; relaycore may have 2 to 20 replicas"),
        (asked(replicas=1), "1 is below the minimum of 2"),
        (asked(expires_at=NOW), "it ended at 2027-01-15 08:00:00 UTC, before a scaler heard it"),
        (asked("pause"), ""),
        (asked("pause", expires_at=NOW - timedelta(1), at=NOW - timedelta(2)), "it ended at 2027-01-14"),
        (asked("resume"), ""),
    ],
    ids=["fits", "the maximum", "too many", "too few", "over", "a pause", "a pause that is over", "resume"],
)
def test_an_order_that_does_not_fit_is_refused_with_the_limits(order: ScalingOrder, said: str) -> None:
    refused = refusal(RELAYCORE, order, NOW)
    assert said in refused
    assert bool(refused) is bool(said)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"replicas": 0}, "greater than or equal to 1"),
        ({"replicas": None}, "set needs replicas and expires_at"),
        ({"expires_at": NOW + LONGEST + timedelta(1)}, "more than 30 days after at"),
    ],
    ids=["none", "no count", "too long"],
)
def test_what_cannot_be_meant_is_no_order(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        asked(**fields)


def test_a_pause_without_an_end_ends_before_the_stream_forgets_it() -> None:
    assert asked("pause").ends_at == NOW + LONGEST


def test_a_refused_order_leaves_the_one_before_in_force_and_resume_ends_it() -> None:
    standing = Standing().take(HeardOrder(3, asked()), NOW_S)
    assert standing.order is not None
    assert (standing.order.replicas, standing.order.until_s) == (5, NOW_S + 1800)
    refused = standing.refuse(HeardOrder(4, asked(name="o2", replicas=99)))
    assert (refused.order, refused.heard) == (standing.order, 4)
    assert refused.take(HeardOrder(7, asked("resume", "o3")), NOW_S + 90) == Standing(None, 7, NOW_S + 90)


def test_the_chain_alone_tells_which_order_is_in_force_and_which_were_taken() -> None:
    first, second = HeardOrder(3, asked()), HeardOrder(4, asked(name="o2", replicas=99))
    taken, refused = SCRIBE.order(first, NOW_S, 1, ""), SCRIBE.order(second, NOW_S, 1, "99 replicas are too many")
    assert (taken.kind, taken.order, taken.by, taken.target, taken.ok) == ("order", "o1", "ada", 5, True)
    told = standing_of([taken, refused])
    assert told == Standing(told.order, 4)
    assert told.order is not None

    situation = facts(running(2))
    memory = in_force(orders_heard=4, changes=(change(90),))
    decision = SCRIBE.decision(
        decide(RELAYCORE, situation, memory), situation, memory, {}, name="relaycore-7", epoch=1, dry_run=False
    )
    assert (decision.order, decision.by) == ("o1", "ada")
    assert standing_of([decision]) == Standing(memory.order, 4)
    assert [one.decision for one in changes_of([decision])] == ["relaycore-90", "relaycore-7"]


@pytest.mark.parametrize(
    ("desired", "action", "target"),
    [(2, Action.SCALE_UP, 5), (9, Action.SCALE_DOWN, 5), (5, Action.NO_ACTION, 5)],
    ids=["more", "fewer", "as many"],
)
@pytest.mark.parametrize(
    "memory",
    [
        in_force(),
        in_force(changes=(change(1, ok=None, done_s=None, verdict=None),)),
        in_force(changes=(change(3, verdict=None),)),
        in_force(changes=(change(20, verdict="worse"),), highest_wanted=9),
    ],
    ids=["at rest", "a change under way", "its effect open", "in the cool-down"],
)
def test_a_count_that_was_set_is_carried_out_at_once_and_then_held(
    memory: Memory, desired: int, action: Action, target: int
) -> None:
    busy = facts(running(desired), {"cpu_usage": 3.0}, (open_breach(),))
    decision = decide(RELAYCORE, busy, memory)
    assert (decision.action, decision.target, decision.reason_code) == (action, target, "ordered")
    assert "set to 5 by ada until 2027-01-15 08:30:00 UTC: launch" in decision.reason


@pytest.mark.parametrize(
    ("failed", "under_way", "code"),
    [(0, True, "awaiting_ready"), (1, True, "awaiting_ready"), (1, False, "ordered"), (2, False, "cooldown")],
    ids=["asked for a moment ago", "asked again a moment ago", "failed once", "failed twice"],
)
def test_what_the_target_does_not_take_is_not_ordered_again_with_every_look(
    failed: int, under_way: bool, code: str
) -> None:
    asked_for: dict[str, Any] = {"cause": "order", "target": 5, "breaches": (), "verdict": None}
    past = [change(5 - one, ok=False, **asked_for) for one in range(failed)]
    past += [change(0.3, ok=None, done_s=None, **asked_for)] * under_way
    assert decide(RELAYCORE, facts(running(2)), in_force(changes=tuple(past))).reason_code == code


@pytest.mark.parametrize("replicas", [None, 5], ids=["paused", "set"])
def test_while_an_order_is_in_force_nothing_else_moves_the_service(replicas: int | None) -> None:
    busy = facts(running(5), {"cpu_usage": 3.0}, (open_breach(),))
    decision = decide(RELAYCORE, busy, in_force(replicas))
    assert (decision.action, decision.reason_code) == (Action.NO_ACTION, "paused" if replicas is None else "ordered")
    assert decision.candidates, "what was asked for is told all the same"
    assert decide(RELAYCORE, busy, Memory()).action is Action.SCALE_UP


@pytest.mark.parametrize(
    ("seen", "code"),
    [(running(0), "stopped"), (running(3, updating=True), "updating"), (None, "unobserved")],
    ids=["stopped", "updating", "unobserved"],
)
def test_a_count_that_was_set_waits_while_the_service_is_stopped_updated_or_unseen(seen: Any, code: str) -> None:
    decision = decide(RELAYCORE, facts(seen), in_force())
    assert (decision.action, decision.reason_code) == (Action.NO_ACTION, code)


def test_limits_that_were_narrowed_since_hold_for_a_count_too() -> None:
    decision = decide(relaycore(max=4), facts(running(2)), in_force())
    assert (decision.target, [one.name for one in decision.clamps]) == (4, ["limits"])


def test_a_decision_by_order_is_made_again_from_its_record() -> None:
    situation, memory = facts(running(2)), in_force()
    made = decide(RELAYCORE, situation, memory)
    record = SCRIBE.decision(made, situation, memory, {}, name="relaycore-1", epoch=1, dry_run=False)
    again = decide(*replay_inputs(type(record).model_validate_json(record.model_dump_json())))
    assert again == made
