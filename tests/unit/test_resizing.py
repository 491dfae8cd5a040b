"""When an order for sizes begins, waits or ends; when a resize is through, was worse, and is taken back."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scaler.commands import ordering
from services.scaler.history import changes_of, sizes_heard_of
from services.scaler.orders import HeardOrder
from services.scaler.policy import decide
from services.scaler.records import Scribe, replay_inputs, resize_inputs
from services.scaler.resources.applying import Turns
from services.scaler.resources.bounds import refusal
from services.scaler.resources.resize import Resize, ResizeCase, decide_resize, finished, unheard
from services.scaler.resources.resize_effect import judge_early, judge_resize
from services.scaler.situation import Change, Facts, Holding, Memory, Observation, Shares, Sizes
from shared.contracts.scaling import Action, ScalingRecord
from shared.contracts.scaling_orders import ScalingOrder
from tests.unit.resource_cases import RESIZING, SIZES, rules
from tests.unit.scaler_cases import NOW_S, change, facts, open_breach, running

SMALLER = Sizes(cpu_limit=1.0)
AFTER = SIZES.model_copy(update={"cpu_limit": 1.0})
QUIET = facts(running(3))


def order(**values: Any) -> ScalingOrder:
    fields = {
        "id": "o1", "environment": "local", "service": "relaycore", "kind": "apply", "plan": "p1",
        "items": ("cpu.relaycore",), "from_sizes": SIZES, "sizes": SMALLER, "by": "ada", "reason": "",
        "at": datetime.fromtimestamp(NOW_S - 5, tz=UTC), "expires_at": datetime.fromtimestamp(NOW_S + 60, tz=UTC),
    }  # fmt: skip
    return ScalingOrder.model_validate({**fields, **values})


def case(**values: Any) -> ResizeCase:
    fields: dict[str, Any] = {"facts": QUIET, "memory": Memory(), "sizes": SIZES, "heard": HeardOrder(7, order())}
    return ResizeCase(**{**fields, **values})


def resized(ago_s: float = 60.0, **values: Any) -> Change:
    """A resize of RelayCore to a smaller CPU, through unless said otherwise."""
    fields = {
        "action": Action.NO_ACTION, "current": 3, "target": 3, "cause": "sizes", "limit": None, "breaches": (),
        "from_sizes": SIZES, "to_sizes": AFTER, "verdict": None,
    }  # fmt: skip
    return change(ago_s, **{**fields, **values})


def shares(cores: float) -> Shares:
    held = Holding(service="relaycore", min=2, replicas=3, wanted=3, cpu_cores=1.5)
    other = Holding(service="autmatrix-backend", min=1, replicas=1, wanted=1, cpu_cores=1.0)
    return Shares(bounds={"cpu_cores": cores}, holdings=(held, other))


LARGER_ORDER = HeardOrder(7, order(sizes=Sizes(cpu_limit=2.0)))


@pytest.mark.parametrize(
    ("values", "code", "over"),
    [
        ({}, "ordered", True),
        ({"heard": HeardOrder(7, order(expires_at=datetime.fromtimestamp(NOW_S, tz=UTC)))}, "expired", True),
        ({"sizes": AFTER}, "already", True),
        ({"sizes": SIZES.model_copy(update={"cpu_limit": 2.0})}, "changed_since", True),
        ({"heard": HeardOrder(7, order(sizes=Sizes(cpu_limit=0.1)))}, "beyond_limits", True),
        ({"heard": HeardOrder(7, order(sizes=Sizes(cpu_limit=9)))}, "beyond_limits", True),
        ({"heard": HeardOrder(7, order(from_sizes=None)), "sizes": Sizes(memory_limit=512.0)}, "no_way_back", True),
        ({"sizes": None}, "unobserved", False),
        ({"facts": facts(None)}, "unobserved", False),
        ({"facts": facts(running(0))}, "stopped", False),
        ({"facts": facts(running(3, updating=True))}, "updating", False),
        ({"facts": facts(running(3, ready=2))}, "not_all_ready", False),
        ({"facts": facts(running(3, ready=3, unhealthy=1))}, "not_all_ready", False),
        ({"facts": facts(running(3), breaches=(open_breach(),))}, "breach_open", False),
        ({"facts": facts(running(3), breaches=(open_breach(system="autmatrix"),))}, "ordered", True),
        ({"memory": Memory(changes=(change(30, ok=None, verdict=None),))}, "awaiting_effect", False),
        ({"memory": Memory(changes=(change(30, verdict=None),))}, "awaiting_effect", False),
        ({"memory": Memory(changes=(change(5),))}, "cooldown", False),
        ({"memory": Memory(changes=(change(11),))}, "ordered", True),
        ({"elsewhere": "autmatrix-backend is being resized"}, "one_at_a_time", False),
        ({"facts": QUIET.model_copy(update={"shares": shares(6.0)}), "heard": LARGER_ORDER}, "budget", False),
        ({"facts": QUIET.model_copy(update={"shares": shares(8.0)}), "heard": LARGER_ORDER}, "ordered", True),
        ({"facts": QUIET.model_copy(update={"shares": shares(1.0)})}, "ordered", True),
    ],
)
def test_what_becomes_of_an_order(values: dict[str, Any], code: str, over: bool) -> None:
    made = decide_resize(rules(), case(**values))
    assert made is not None
    assert (made.code, made.over) == (code, over)
    assert (made.sizes is not None) is (code == "ordered")


@pytest.mark.parametrize("resizing", [None, RESIZING.model_copy(update={"enabled": False})])
def test_nothing_is_resized_where_the_rules_do_not_say_so(resizing: Any) -> None:
    made = decide_resize(rules(resizing), case())
    assert made is not None
    assert (made.code, made.sizes) == ("not_allowed", None)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"sizes": AFTER, "age": 5}, ""),
        ({"sizes": AFTER, "age": 1}, None),
        ({"sizes": AFTER, "age": 5, "seen": running(3, updating=True)}, None),
        ({"sizes": AFTER, "age": 5, "seen": running(3, ready=2)}, None),
        ({"sizes": SIZES, "age": 5}, None),
        ({"sizes": None, "age": 5}, None),
        ({"sizes": AFTER, "age": 5, "seen": running(3, ready=2, restarting=1)}, "1 replicas keep ending"),
        ({"sizes": SIZES, "age": 301}, "3 of 3 replicas are ready after 300 s"),
        ({"sizes": None, "age": 301, "seen": None}, "cannot be observed after 300 s"),
    ],
)
def test_when_a_resize_has_come_to_its_end(values: dict[str, Any], expected: str | None) -> None:
    seen = values.get("seen", running(3))
    error = finished(resized(values["age"], ok=None), seen, values["sizes"], NOW_S, RESIZING)
    assert error == expected or (expected and error and expected in error)


@pytest.mark.parametrize(
    ("seen", "sizes", "again"),
    [
        (running(3), SIZES, True),
        (running(3), AFTER, False),
        (running(3, updating=True), SIZES, False),
        (running(3), None, False),
        (None, SIZES, False),
    ],
)
def test_what_was_not_heard_is_asked_for_again(seen: Observation | None, sizes: Sizes | None, again: bool) -> None:
    assert unheard(resized(5, ok=None), seen, sizes) is again


BEFORE = {"p95_ms.relaycore": 20.0, "routing_latency": 15.0, "request_rate_total": 100.0, "error_rate": 0.0}


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ({}, {}, "no_effect"),
        ({}, {"p95_ms.relaycore": 21.9}, "no_effect"),
        ({}, {"p95_ms.relaycore": 40.0}, "worse"),
        ({}, {"routing_latency": 20.0}, "no_effect"),
        ({}, {"routing_latency": 30.0}, "worse"),
        ({}, {"p95_ms.autmatrix": 900.0}, "no_effect"),
        ({}, {"p95_ms.relaycore": 40.0, "request_rate_total": 150.0}, "unknown"),
        ({}, {"error_rate": 0.05}, "worse"),
        ({"cpu_throttled": 0.0}, {"cpu_throttled": 0.2}, "worse"),
        ({"cpu_throttled": 0.3}, {"cpu_throttled": 0.0}, "helped"),
        ({}, {"p95_ms.relaycore": 10.0}, "helped"),
        ({}, {"p95_ms.relaycore": 10.0, "request_rate_total": 70.0}, "no_effect"),
        ({}, {"request_rate_total": 40.0}, "unknown"),
    ],
)
def test_the_verdict_of_a_resize(before: dict[str, float], after: dict[str, float], verdict: str) -> None:
    made = resized(before={**BEFORE, **before})
    found, words = judge_resize(made, {**BEFORE, **after}, rules())
    assert found == verdict, words


def test_without_any_latency_nothing_is_known_of_the_effect() -> None:
    assert judge_resize(resized(before={"cpu_usage": 0.3}), {"cpu_usage": 0.4}, rules())[0] == "unknown"


LARGER = SIZES.model_copy(update={"cpu_limit": 2.0})


@pytest.mark.parametrize(
    ("known", "made", "verdict"),
    [
        (facts(running(3, ready=2, unhealthy=1)), resized(), "worse"),
        (facts(running(3, restarting=1)), resized(), "worse"),
        (facts(running(3), breaches=(open_breach(),)), resized(), "worse"),
        (facts(running(3), breaches=(open_breach(),)), resized(to_sizes=LARGER), "unknown"),
        (facts(running(3), breaches=(open_breach(),)), resized(breaches=("b1",)), None),
        (facts(running(3), breaches=(open_breach(judged_s=NOW_S - 100),)), resized(), None),
        (facts(running(3), breaches=(open_breach(system="autmatrix"),)), resized(), None),
        (QUIET, resized(), None),
        (facts(running(3, unhealthy=1)), resized(4.0, done_s=NOW_S - 1), None),
    ],
)
def test_what_does_not_wait_for_the_window(known: Facts, made: Change, verdict: str | None) -> None:
    found = judge_early(made, rules(), known, RESIZING.settle)
    assert (found and found[0]) == verdict


@pytest.mark.parametrize(
    ("made", "sizes", "back"),
    [
        (resized(verdict="worse"), AFTER, True),
        (resized(verdict="worse"), None, True),
        (resized(verdict="worse"), SIZES, False),
        (resized(ok=False), AFTER, True),
        (resized(verdict="no_effect"), AFTER, False),
        (resized(ok=None), AFTER, False),
        (resized(verdict="worse", reverses="relaycore-1"), AFTER, False),
        (resized(verdict="worse", dry_run=True), AFTER, False),
        (change(verdict="worse"), AFTER, False),
    ],
)
def test_a_resize_that_failed_or_was_worse_is_taken_back_once(made: Change, sizes: Sizes | None, back: bool) -> None:
    found = decide_resize(rules(), case(memory=Memory(changes=(made,)), sizes=sizes, heard=None))
    assert found == (Resize("rollback", found.reason, SIZES, True, made.decision) if back and found else None)


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (resized(3, ok=None, done_s=None), "awaiting_ready"),
        (resized(30), "awaiting_effect"),
        (resized(5, verdict="no_effect"), "cooldown"),
    ],
)
def test_replicas_do_not_move_in_the_cool_down_of_a_resize(made: Change, code: str) -> None:
    known = facts(running(3), {"routing_latency": 200.0, "queue_length": 20.0, "cpu_usage": 0.9}, (open_breach(),))
    decision = decide(rules(), known, Memory(changes=(made,)))
    assert (decision.action, decision.reason_code) == (Action.NO_ACTION, code)


def test_replicas_do_not_pay_for_a_resize_that_was_worse() -> None:
    seen = facts(running(3), {"request_rate": 100.0, "queue_length": 0.0, "cpu_usage": 0.5})
    decision = decide(rules(), seen, Memory(changes=(resized(verdict="worse"),)))
    assert (decision.action, decision.target) == (Action.NO_ACTION, 3)


def test_a_record_tells_all_a_resize_was_made_from_and_the_chain_tells_how_far_orders_were_heard() -> None:
    scribe, known = Scribe("relaycore", "local", rules()), case(before={"cpu_usage": 0.3})
    made = decide_resize(rules(), known)
    assert made is not None
    record = scribe.resize(made, known, name="relaycore-9", epoch=3, dry_run=False)
    assert resize_inputs(record) == known
    assert decide_resize(replay_inputs(record)[0], resize_inputs(record)) == made
    [change_known] = changes_of([record])
    assert (change_known.from_sizes, change_known.to_sizes, change_known.undecided) == (SIZES, AFTER, True)
    assert (record.order, record.by, record.ok, sizes_heard_of([record])) == ("o1", "ada", True, 7)
    waits = case(elsewhere="autmatrix-backend is being resized")
    held = decide_resize(rules(), waits)
    assert held is not None
    record = scribe.resize(held, waits, name="relaycore-10", epoch=3, dry_run=False)
    assert (record.ok, record.to_sizes, sizes_heard_of([record]), changes_of([record])) == (None, None, 0, ())


def test_one_service_at_a_time_and_none_before_all_are_known() -> None:
    turns = Turns(["a", "b"])
    turns.tell("a", 5, resizing=False)
    assert turns.elsewhere("a", 5) == "whether b is being resized is not known yet"
    turns.tell("b", 4, resizing=False)
    assert "not known yet" in turns.elsewhere("a", 5)
    turns.tell("b", 5, resizing=True)
    assert turns.elsewhere("a", 5) == "b is being resized"
    turns.tell("b", 5, resizing=False)
    assert turns.elsewhere("a", 5) == ""


some = st.one_of(st.none(), st.floats(0.01, 20_000, allow_nan=False))


@given(
    st.builds(Sizes, cpu_limit=some, cpu_reserved=some, memory_limit=some, memory_reserved=some), st.floats(0.05, 0.95)
)
def test_whatever_is_ordered_only_sizes_within_limits_and_steps_are_given(wanted: Sizes, step: float) -> None:
    resizing = RESIZING.model_copy(update={"step": step})
    made = decide_resize(rules(resizing), case(heard=HeardOrder(7, order(sizes=wanted))))
    assert made is not None
    if made.sizes is None:
        return
    assert refusal(wanted, SIZES, resizing) == ""
    for name, limits in (("cpu_limit", RESIZING.cpu), ("memory_limit", RESIZING.memory)):
        value, there = getattr(made.sizes, name), getattr(SIZES, name)
        assert limits.min <= value <= limits.max
        assert abs(value - there) <= step * there * 1.002


async def test_an_order_that_waits_in_silence_is_followed_until_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ordering, "SILENT_S", 0.1)
    now = datetime.now(UTC)
    asked = order(at=now, expires_at=now + timedelta(seconds=1))
    heard: asyncio.Queue[Any] = asyncio.Queue()

    def say(*, ok: bool | None, reason: str) -> None:
        record = ScalingRecord(
            kind="resize", decision="relaycore-1", service="relaycore", system="relaycore", environment="local",
            at=now, sequence=1, lease_epoch=1, previous_hash="", order="o1", ok=ok, reason=reason,
        )  # fmt: skip
        heard.put_nowait(SimpleNamespace(data=record.model_dump_json().encode()))

    say(ok=None, reason="a breach is open")
    asyncio.get_running_loop().call_later(0.5, lambda: say(ok=False, reason="it could not begin"))
    known = await asyncio.wait_for(ordering._follow([asked], heard, lambda *_: None), 5)
    assert known == {"o1": ("not_carried_out", "not carried out: it could not begin")}
