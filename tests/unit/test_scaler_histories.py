"""Random lives of one service with all that can happen to it at once: orders, rollbacks, escalations, targets that do
not hear, metrics that stop, and another scaler that takes over at any moment with no more than the chain tells."""

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from services.scaler.candidates import last_done_s, weigh
from services.scaler.decision import Decision
from services.scaler.effect import finished
from services.scaler.escalation import due
from services.scaler.history import Tracker, change_of, changes_of, escalations_of, outcome, with_escalation
from services.scaler.orders import HeardOrder, Standing, refusal, standing_of
from services.scaler.policy import decide
from services.scaler.records import Scribe
from services.scaler.rederivation import rederive
from services.scaler.situation import Change, Demand, Escalation, Facts, Memory, Observation, Reading, undecided
from shared.contracts.scaling import Action, ScalingRecord
from shared.contracts.scaling_orders import ScalingOrder
from shared.contracts.scaling_rules import ServiceRules
from tests.unit.scaler_cases import NOW_S, open_breach, relaycore

EFFECT = {"settle": 0, "window": 2, "ready_within": 20}
TUNING = {"cooldown": 2, "stabilization": {"up": 0, "down": 30}, "effectiveness": EFFECT}
DOWN = {"idle_for": 10, "all": [{"metric": "cpu_usage", "below": 0.25}]}
SIZING = {"concurrency": 8, "start_up": 5}
RULES = (
    relaycore(tuning=TUNING, down=DOWN),
    relaycore(tuning=TUNING | {"effectiveness": {**EFFECT, "on_no_effect": "rollback"}}, down=DOWN),
    relaycore(tuning=TUNING, down=DOWN, sizing=SIZING),
    relaycore(tuning=TUNING, up=(), down=None, sizing=SIZING, breaches=()),
)
LIVES = 120
CHUNKS = 2


@dataclass
class Life:
    """A controller without its edges. ``records``: the chain so far."""

    rules: ServiceRules
    chance: random.Random
    now_s: float = NOW_S
    desired: int = 4
    lacking: int = 0
    loud: bool = False
    records: list[ScalingRecord] = field(default_factory=list)
    changes: tuple[Change, ...] = ()
    escalations: tuple[Escalation, ...] = ()
    standing: Standing = field(default_factory=Standing)
    tracker: Tracker = field(default_factory=Tracker)
    breach: int = 0
    position: int = 0
    moves: int = 0

    @property
    def scribe(self) -> Scribe:
        return Scribe("relaycore", "local", self.rules)

    def often(self, share: float) -> bool:
        return self.chance.random() < share

    def live(self, steps: int) -> None:
        for _ in range(steps):
            self.now_s += self.chance.choice([0.25, 1.0, 1.0, 4.0, 12.0])
            if self.often(0.15):
                self.loud = not self.loud
                self.breach += self.loud
            if self.often(0.1):
                self.ask()
            self.look()
            if self.often(0.15):
                self.take_over()

    def ask(self) -> None:
        """An operator's word; now and then one that cannot be."""
        self.position += self.chance.randint(1, 9)
        kind = self.chance.choice(["set", "set", "pause", "resume"])
        at = datetime.fromtimestamp(self.now_s, tz=UTC)
        order = ScalingOrder(
            id=f"o{self.position}", environment="local", service="relaycore", kind=kind, by="ada", reason="so", at=at,
            replicas=self.chance.randint(1, 25) if kind == "set" else None,
            expires_at=None if kind == "resume" else at + timedelta(seconds=self.chance.choice([3, 30, 90])),
        )  # fmt: skip
        heard, refused = HeardOrder(self.position, order), refusal(self.rules, order, at)
        self.records.append(self.scribe.order(heard, self.now_s, 1, refused))
        self.standing = self.standing.refuse(heard) if refused else self.standing.take(heard, self.now_s)

    def situation(self) -> Facts:
        if self.lacking and self.often(0.5):
            self.lacking = 0
        seen = Observation(
            desired=self.desired, ready=self.desired - self.lacking, starting=self.lacking, updating=self.often(0.03)
        )
        top = 2.0 if self.loud else 0.05

        def reading(limit: float) -> Reading:
            value = None if self.often(0.03) else self.chance.uniform(0, top * limit)
            missing = int(self.often(0.05))
            return Reading(value=value, latest=value, reported=max(1, seen.ready - missing), missing=missing, span_s=9)

        rate = self.chance.uniform(0, 300 * top)
        limits = {"cpu_usage": 0.75, "request_rate": 150.0, "routing_latency": 75.0, "queue_length": 9.0}
        breach = open_breach(breach=f"b{self.breach}", value=150.0, judged_s=self.now_s)
        return Facts(
            service="relaycore",
            now_s=self.now_s,
            observation=None if self.often(0.05) else seen,
            readings={name: reading(limit) for name, limit in limits.items()},
            breaches=(breach,) if self.loud and self.often(0.7) else (),
            demand=None
            if self.often(0.05)
            else Demand(
                stable=rate, panic=rate, rate=rate, forecast=rate, service_s=0.5, missing=int(self.often(0.05))
            ),
        )

    def look(self) -> None:
        facts = self.situation()
        change = undecided(self.changes)
        if change is not None:
            self.follow(change, facts)
        if self.standing.order is not None and self.standing.order.until_s <= self.now_s:
            self.standing = replace(self.standing, order=None)
        told = {
            "order": self.standing.order, "orders_heard": self.standing.heard, "resumed_s": self.standing.resumed_s,
            "escalations": self.escalations,
        }  # fmt: skip
        memory = self.tracker.look(self.rules, facts, self.changes).model_copy(update=told)
        asks = weigh(self.rules, facts, last_done_s(self.changes))
        for turn in due(self.rules, facts, memory, asks):
            self.records.append(self.scribe.escalation(turn, self.now_s, 1))
            self.escalations = with_escalation(self.escalations, self.records[-1])
        memory = memory.model_copy(update={"escalations": self.escalations})
        decision = decide(self.rules, facts, memory)
        if decision.action is not Action.NO_ACTION:
            self.check(decision, facts, memory)
            self.carry_out(decision, facts, memory)
        elif self.often(0.5):
            self.record(decision, facts, memory)

    def follow(self, change: Change, facts: Facts) -> None:
        if change.ok is not None:
            if self.often(0.5):
                verdict = self.chance.choice(["helped", "no_effect", "worse", "worse", "unknown"])
                self.note(change, self.scribe.effectiveness(change, self.now_s, 1, verdict, "", {}))  # type: ignore[arg-type]
            return
        told = finished(change, facts.observation, self.now_s, self.rules.tuning.effectiveness)
        if told is not None:
            self.note(change, self.scribe.result(change, self.now_s, 1, ready=None, error=told[1]))

    def note(self, change: Change, record: ScalingRecord) -> None:
        self.records.append(record)
        told = outcome(change, record)
        self.changes = tuple(told if one.decision == change.decision else one for one in self.changes)

    def record(self, decision: Decision, facts: Facts, memory: Memory) -> ScalingRecord:
        name = f"relaycore-{len(self.records) + 1}"
        made = self.scribe.decision(decision, facts, memory, {}, name=name, epoch=1, dry_run=False)
        made = ScalingRecord.model_validate_json(made.model_dump_json())
        again = rederive(made)
        assert again.same, again
        self.records.append(made)
        return made

    def carry_out(self, decision: Decision, facts: Facts, memory: Memory) -> None:
        overtaken = undecided(self.changes)
        if overtaken is not None and overtaken.ok is None:
            self.note(overtaken, self.scribe.result(overtaken, self.now_s, 1, ready=None, error="overtaken"))
        elif overtaken is not None:
            self.note(overtaken, self.scribe.effectiveness(overtaken, self.now_s, 1, "unknown", "", {}))
        made = change_of(self.record(decision, facts, memory))
        assert made is not None
        self.changes = (*self.changes, made)[-8:]
        self.moves += 1
        heard = self.chance.random()
        if heard < 0.1:
            self.note(made, self.scribe.result(made, self.now_s, 1, ready=None, error="refused"))
        elif heard > 0.2:
            self.lacking = max(0, decision.target - self.desired)
            self.desired = decision.target

    def check(self, decision: Decision, facts: Facts, memory: Memory) -> None:
        seen, order, rules = facts.observation, memory.order, self.rules
        assert seen is not None
        assert not seen.updating
        assert rules.min <= decision.target <= rules.max
        past = [one for one in self.changes if not one.dry_run]
        if order is not None:
            assert (decision.reason_code, decision.target) == ("ordered", order.replicas)
            return
        assert decision.reason_code != "ordered"
        assert not past or decision.reason_code == "sized" or self.now_s - past[-1].at_s >= rules.tuning.cooldown
        if decision.reason_code == "idle" or (decision.reverses and decision.action is Action.SCALE_DOWN):
            for rule in rules.up:
                assert rule.metric == "routing_latency" or facts.readings[rule.metric].complete
            assert rules.sizing is None or (facts.demand is not None and facts.demand.missing == 0)
            assert seen.ready == seen.desired
        if decision.action is Action.SCALE_UP:
            open_now = {one.breach for one in facts.breaches} if decision.reason_code == "breach_open" else set()
            stopped = [one for one in self.escalations if one.over_s is None and one.cause == decision.cause]
            assert not any(bool(open_now) == bool(one.breaches) and open_now >= set(one.breaches) for one in stopped)

    def take_over(self) -> None:
        """All that is left is the chain, as it is read: from the last decision on, or from somewhere before it."""
        decisions = [place for place, one in enumerate(self.records) if one.kind == "decision"]
        if not decisions:
            return
        begin = decisions[-1] if self.often(0.7) else self.chance.choice(decisions)
        read = self.records[begin:]
        assert changes_of(read) == self.changes
        assert escalations_of(read) == self.escalations
        standing = standing_of(read)
        if standing.order is not None and standing.order.until_s <= self.now_s:
            standing = replace(standing, order=None)
        expected = self.standing
        if expected.order is not None and expected.order.until_s <= self.now_s:
            expected = replace(expected, order=None)
        assert standing == expected
        self.tracker = Tracker(self.tracker.remember() if self.often(0.5) else None)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_lives_in_which_everything_happens_at_once_are_told_by_the_chain_and_break_no_promise(chunk: int) -> None:
    moves = 0
    for seed in range(chunk, LIVES, CHUNKS):
        chance = random.Random(seed)
        life = Life(RULES[seed % len(RULES)], chance)
        life.live(60)
        moves += life.moves
    assert moves > LIVES / CHUNKS, "lives in which nothing moves prove nothing"
