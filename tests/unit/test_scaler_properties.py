"""What must hold whatever happens: histories of random moments, decided one after the other and carried out.

Hypothesis looks for the shortest history that breaks a promise; ten thousand seeded ones look further.
"""

import json
import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scaler.decision import Decision
from services.scaler.history import Tracker
from services.scaler.open_breaches import OpenBreaches
from services.scaler.policy import decide
from services.scaler.situation import Change, Demand, Facts, Memory, Observation, OpenBreach, Reading, Verdict
from shared.contracts.breach import BreachStatus
from shared.contracts.scaling import Action
from shared.contracts.scaling_rules import ServiceRules
from tests.unit.scaler_cases import NOW_S, breach_event, facts, open_breach, relaycore

TUNING = {"cooldown": 2, "stabilization": {"up": 0, "down": 30}, "effectiveness": {"settle": 0, "window": 2}}
SIZING = {"concurrency": 8, "start_up": 5, "rate": {"percent": 400, "replicas": 4, "per": 15}}
DOWN = {
    "idle_for": 10,
    "all": [{"metric": "request_rate", "below": 50}, {"metric": "cpu_usage", "below": 0.25}],
}
RULES = relaycore(tuning=TUNING, down=DOWN)
SIZED = relaycore(tuning=TUNING, down=DOWN, sizing=SIZING)
SIZED_ALONE = relaycore(tuning=TUNING, up=(), down=None, sizing=SIZING)
EVERY_RULES = (RULES, SIZED, SIZED_ALONE)
HISTORIES = 10_000
CHUNKS = 10


@dataclass(frozen=True)
class Moment:
    after_s: float
    readings: dict[str, Reading]
    demand: Demand | None
    breached: bool
    away: bool
    unready: int
    starting: bool
    updating: bool
    verdict: Verdict


def values(top: float) -> st.SearchStrategy[Reading]:
    low = st.floats(0, top / 20)
    value = st.none() | low | low | st.floats(0, top)
    return st.builds(
        lambda one, missing: Reading(value=one, latest=one, reported=2, missing=missing, span_s=9),
        value,
        st.sampled_from([0, 0, 0, 0, 1]),
    )


def demands() -> st.SearchStrategy[Demand]:
    rate = st.floats(0, 30) | st.floats(0, 3_000)
    return st.builds(
        Demand,
        stable=rate,
        panic=rate,
        rate=rate,
        forecast=rate,
        dispersion=st.floats(1, 50),
        surge=st.floats(0, 20),
        panic_ago_s=st.none() | st.floats(0, 60),
        service_s=st.floats(0, 2),
        waiting=st.sampled_from([0.0, 0.0, 500.0]),
        missing=st.sampled_from([0, 0, 0, 1]),
    )


MOMENTS = st.builds(
    Moment,
    st.floats(0.1, 14),
    st.fixed_dictionaries(
        {
            "cpu_usage": values(5),
            "request_rate": values(900),
            "routing_latency": values(9_000),
            "queue_length": values(99),
        }
    ),
    st.none() | demands(),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([False] * 7 + [True]),
    st.sampled_from([0, 0, 0, 0, 1, 3]),
    st.booleans(),
    st.sampled_from([False] * 7 + [True]),
    st.sampled_from(["helped", "no_effect", "worse", "unknown"]),
)


@given(
    rules=st.sampled_from(EVERY_RULES),
    start=st.integers(1, 25),
    moments=st.lists(MOMENTS, min_size=1, max_size=40),
)
@settings(max_examples=120, deadline=None)
def test_no_history_of_moments_breaks_the_limits_or_moves_blindly(
    rules: ServiceRules, start: int, moments: list[Moment]
) -> None:
    live(rules, start, moments)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_ten_thousand_seeded_histories_keep_every_promise(chunk: int) -> None:
    moved = 0
    for seed in range(chunk, HISTORIES, CHUNKS):
        random_ = random.Random(seed)
        moments = [seeded(random_) for _ in range(random_.randint(3, 10))]
        moved += live(EVERY_RULES[seed % 3], random_.randint(1, 25), moments)
    assert moved > HISTORIES / CHUNKS, "histories in which nothing moves prove nothing"


def seeded(random_: random.Random) -> Moment:
    """A moment of quiet more often than not, so that services come to be removed from."""
    quiet = random_.random() < 0.6

    def reading(top: float) -> Reading:
        value = None if random_.random() < 0.05 else random_.uniform(0, top / 20 if quiet else top)
        return Reading(value=value, latest=value, reported=2, missing=int(random_.random() < 0.05), span_s=9)

    rate = random_.uniform(0, 30 if quiet else 3_000)
    demand = Demand(
        stable=rate,
        panic=rate,
        rate=rate,
        forecast=rate * random_.uniform(1, 1.5),
        dispersion=random_.uniform(1, 30),
        surge=random_.uniform(0, 5),
        panic_ago_s=None if quiet else random_.choice([None, 3.0]),
        service_s=random_.uniform(0, 0.6),
        missing=int(random_.random() < 0.05),
    )
    tops = {"cpu_usage": 5.0, "request_rate": 900.0, "routing_latency": 9_000.0, "queue_length": 99.0}
    return Moment(
        after_s=random_.uniform(0.1, 14),
        readings={name: reading(top) for name, top in tops.items()},
        demand=None if random_.random() < 0.05 else demand,
        breached=not quiet and random_.random() < 0.5,
        away=random_.random() < 0.05,
        unready=random_.choice([0] * 9 + [1, 3]),
        starting=random_.random() < 0.5,
        updating=random_.random() < 0.05,
        verdict=random_.choice(["helped", "helped", "no_effect", "worse", "unknown"]),
    )


def live(rules: ServiceRules, start: int, moments: list[Moment]) -> int:
    """Decide and carry out one history, with everything checked at each moment; returns how often it moved."""
    tracker, heard, desired, now_s = Tracker(), Heard(), start, NOW_S
    made: tuple[Change, ...] = ()
    moved = 0
    for moment in moments:
        now_s += moment.after_s
        lacking = min(moment.unready, desired)
        state = {"starting": lacking} if moment.starting else {"unhealthy": lacking}
        seen = Observation(desired=desired, ready=desired - lacking, updating=moment.updating, **state)
        breaches = heard.tell(moment.readings["routing_latency"].value or 80.0, now_s, is_open=moment.breached)
        situation = facts(None if moment.away else seen, dict(moment.readings), breaches, now_s)
        situation = situation.model_copy(update={"demand": None if moment.away else moment.demand})
        memory = tracker.look(rules, situation, made)
        decision = decide(rules, situation, memory)
        if decision.action is Action.NO_ACTION:
            assert decision.target == decision.current
            continue
        check(rules, situation, memory, decision)
        if decision.action is Action.SCALE_DOWN and decision.reason_code == "idle":
            ups = [one.at_s for one in made if one.action is Action.SCALE_UP]
            assert not ups or now_s - ups[-1] >= rules.tuning.stabilization.down
        check_undoing(rules, made, decision, now_s)
        desired = decision.target
        moved += 1
        made = (
            *made,
            Change(
                decision=str(moved), at_s=now_s, action=decision.action, current=decision.current, target=desired,
                cause=decision.cause, breaches=decision.breaches, ok=True, done_s=now_s, verdict=moment.verdict,
                reverses=decision.reverses,
            ),
        )[-8:]  # fmt: skip
    return moved


def check_undoing(rules: ServiceRules, made: tuple[Change, ...], decision: Decision, now_s: float) -> None:
    """Only the last change is undone, once, no further than to the count before; and its cause rests then, unless that
    made it worse."""
    if decision.reverses:
        undone = made[-1]
        assert (undone.decision, undone.reverses) == (decision.reverses, "")
        back = decision.target - undone.current
        assert back <= 0 if decision.action is Action.SCALE_UP else back >= 0
    elif decision.action is Action.SCALE_UP:
        since_s = now_s - rules.tuning.stabilization.down
        resting = [one for one in made if one.at_s > since_s and one.verdict != "worse" and one.ok is not False]
        names = {one.reverses for one in resting if one.reverses}
        assert decision.cause not in {one.cause for one in made if one.decision in names}


class Heard:
    """The validator's word, told once and told again: what is open must be the same."""

    def __init__(self) -> None:
        self._once, self._often = OpenBreaches(), OpenBreaches()
        self._sequence = 0

    def tell(self, value: float, now_s: float, *, is_open: bool) -> tuple[OpenBreach, ...]:
        self._sequence += 1
        status = BreachStatus.OPENED if is_open else BreachStatus.RESOLVED
        event = breach_event(status, revision=self._sequence, value=value)
        for ears, times in ((self._once, 1), (self._often, 2)):
            for _ in range(times):
                ears.tell("breach.relaycore.routing_latency.all", self._sequence, event)
        assert self._often.open() == self._once.open()
        return (open_breach(value=value, judged_s=now_s),) if self._once.open() else ()


def check(rules: ServiceRules, situation: Facts, memory: Memory, decision: Decision) -> None:
    kept = json.loads(json.dumps([one.model_dump(mode="json") for one in (rules, situation, memory)]))
    again = (ServiceRules.model_validate(kept[0]), Facts.model_validate(kept[1]), Memory.model_validate(kept[2]))
    assert decide(*again) == decision
    seen = situation.observation
    assert seen is not None
    assert not seen.updating
    assert rules.min <= decision.target <= rules.max
    if decision.action is Action.SCALE_UP:
        assert decision.target > decision.current
        back = decision.reason_code in ("below_min", "rollback")
        assert back or decision.target <= furthest(rules, situation, memory, decision)
        return
    assert decision.target < decision.current
    if decision.reason_code == "idle":
        check_removal(rules, situation, decision)


def furthest(rules: ServiceRules, situation: Facts, memory: Memory, decision: Decision) -> float:
    rate = rules.sizing.rate if rules.sizing and decision.reason_code == "sized" else rules.tuning.rate
    recent = [one.current for one in memory.changes if one.at_s > situation.now_s - rate.per]
    base = min([decision.current, *recent])
    return max(base * (1 + rate.percent / 100), base + rate.replicas)


def check_removal(rules: ServiceRules, situation: Facts, decision: Decision) -> None:
    seen, demand = situation.observation, situation.demand
    assert seen is not None
    if rules.sizing is not None:
        assert demand is not None
        assert demand.missing == 0
        assert demand.panic_ago_s is None
        assert demand.forecast * demand.service_s <= decision.target * 8 * 0.7 + 1e-6
    if rules.down is None:
        return
    for metric in ("cpu_usage", "request_rate"):
        reading = situation.readings[metric]
        assert reading.value is not None
        assert reading.missing == 0
    cpu = situation.readings["cpu_usage"].value or 0.0
    assert cpu * seen.ready / decision.target < 0.9 * 0.75 + 1e-9
