"""What must hold whatever happens: histories of random moments, decided one after the other and carried out."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from services.scaler.decision import Decision
from services.scaler.history import Tracker
from services.scaler.policy import decide
from services.scaler.situation import Change, Facts, Memory, Observation, Reading, Verdict
from shared.contracts.scaling import Action
from tests.unit.scaler_cases import NOW_S, facts, open_breach, relaycore

RULES = relaycore(
    tuning={
        "cooldown": 2,
        "stabilization": {"up": 0, "down": 30},
        "effectiveness": {"settle": 0, "window": 2},
    },
    down={
        "idle_for": 10,
        "all": [{"metric": "request_rate", "below": 50}, {"metric": "cpu_usage", "below": 0.25}],
    },
)


@dataclass(frozen=True)
class Moment:
    after_s: float
    readings: dict[str, Reading]
    breached: bool
    away: bool
    unready: int
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
    st.sampled_from([False, False, False, True]),
    st.sampled_from([False] * 7 + [True]),
    st.sampled_from([0, 0, 0, 0, 1, 3]),
    st.sampled_from([False] * 7 + [True]),
    st.sampled_from(["helped", "no_effect", "worse", "unknown"]),
)


@given(start=st.integers(1, 25), moments=st.lists(MOMENTS, min_size=1, max_size=40))
@settings(max_examples=120, deadline=None)
def test_no_history_of_moments_breaks_the_limits_or_moves_blindly(start: int, moments: list[Moment]) -> None:
    tracker, desired, now_s = Tracker(), start, NOW_S
    made: tuple[Change, ...] = ()
    for moment in moments:
        now_s += moment.after_s
        ready = max(0, desired - moment.unready)
        seen = (
            None
            if moment.away
            else Observation(desired=desired, ready=ready, unhealthy=desired - ready, updating=moment.updating)
        )
        breaches = (open_breach(value=moment.readings["routing_latency"].value or 80.0, judged_s=now_s),)
        situation = facts(seen, dict(moment.readings), breaches if moment.breached else (), now_s)
        memory = tracker.look(RULES, situation, made)
        decision = decide(RULES, situation, memory)
        check(situation, memory, decide(RULES, roundtrip(situation), memory), decision)
        if decision.action is Action.NO_ACTION:
            continue
        if made and decision.action is Action.SCALE_DOWN and decision.reason_code == "idle":
            ups = [one.at_s for one in made if one.action is Action.SCALE_UP]
            assert not ups or now_s - ups[-1] >= RULES.tuning.stabilization.down
        desired = decision.target
        made = (
            *made,
            Change(
                decision=str(len(made)), at_s=now_s, action=decision.action, current=decision.current, target=desired,
                cause=decision.cause, breaches=decision.breaches, ok=True, done_s=now_s, verdict=moment.verdict,
            ),
        )[-8:]  # fmt: skip


def roundtrip(situation: Facts) -> Facts:
    return Facts.model_validate_json(situation.model_dump_json())


def check(situation: Facts, memory: Memory, again: Decision, decision: Decision) -> None:
    assert again == decision
    if decision.action is Action.NO_ACTION:
        return
    seen = situation.observation
    assert seen is not None
    assert not seen.updating
    assert RULES.min <= decision.target <= RULES.max
    if decision.action is Action.SCALE_UP:
        assert decision.target > decision.current
        recent = [one.current for one in memory.changes if one.at_s > situation.now_s - RULES.tuning.rate.per]
        base = min([decision.current, *recent])
        assert decision.reason_code == "below_min" or decision.target <= max(2 * base, base + 4)
        return
    assert decision.target < decision.current
    if decision.reason_code == "idle":
        for metric in ("cpu_usage", "request_rate"):
            reading = situation.readings[metric]
            assert reading.value is not None
            assert reading.missing == 0
        cpu = situation.readings["cpu_usage"].value or 0.0
        assert cpu * seen.ready / decision.target < 0.9 * 0.75 + 1e-9
