"""What becomes of services whose answer to other counts is known, second by second: judged, undone, given up."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from services.scaler.candidates import last_done_s, weigh
from services.scaler.effect import ERROR_RATE, REQUEST_RATE, effect_of, finished, latency_limits, span_before
from services.scaler.escalation import due
from services.scaler.history import KEPT_CHANGES, Tracker
from services.scaler.policy import decide
from services.scaler.situation import LATEST_S, Change, Escalation, Facts, Reading, undecided
from shared.contracts.scaling import Action
from shared.contracts.scaling_rules import ServiceRules
from tests.unit.scaler_cases import NOW_S, RELAYCORE, relaycore, running

Values = dict[str, float]
Answer = Callable[[int, int, int], Values]
"""Metrics by second, replicas, and how many seconds ago that count was reached."""


@dataclass
class Course:
    """One look a second; replicas are there with the next."""

    rules: ServiceRules
    answer: Answer
    replicas: int
    since: int = -1000
    second: int = 0
    told: dict[int, Values] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    escalations: tuple[Escalation, ...] = ()
    tracker: Tracker = field(default_factory=Tracker)
    moves: list[tuple[int, int, str]] = field(default_factory=list)
    """(second, replicas, reason code)"""

    def run(self, seconds: int) -> "Course":
        for self.second in range(seconds):
            self.told[self.second] = self.answer(self.second, self.replicas, self.second - self.since)
            self.follow()
            self.look()
        return self

    @property
    def verdicts(self) -> list[str | None]:
        return [one.verdict for one in self.changes]

    def measured(self, begin_s: float, end_s: float) -> Values:
        seconds = range(math.ceil(begin_s - NOW_S), math.floor(end_s - NOW_S) + 1)
        rows = [self.told[second] for second in seconds if second in self.told]
        return {name: sum(row[name] for row in rows) / len(rows) for name in (rows[0] if rows else {})}

    def follow(self) -> None:
        change, now_s = undecided(self.changes), NOW_S + self.second
        if change is None:
            return
        tuning = self.rules.tuning.effectiveness
        if change.ok is None:
            result = finished(change, running(self.replicas), now_s, tuning)
            change = change if result is None else change.model_copy(update={"ok": result[0], "done_s": now_s})
        elif effect := effect_of(change, self.measured, now_s, tuning, latency_limits(self.rules)):
            change = change.model_copy(update={"verdict": effect.verdict})
        self.changes = (*self.changes[:-1], change)

    def look(self) -> None:
        now_s = NOW_S + self.second
        readings = {}
        for name in self.told[self.second].keys() - {REQUEST_RATE, ERROR_RATE}:
            value = self.measured(now_s - self.rules.tuning.window, now_s)[name]
            latest = self.measured(now_s - LATEST_S, now_s)[name]
            readings[name] = Reading(value=value, latest=latest, reported=self.replicas, span_s=min(self.second, 10))
        facts = Facts(service="relaycore", now_s=now_s, observation=running(self.replicas), readings=readings)
        memory = self.tracker.look(self.rules, facts, self.changes)
        memory = memory.model_copy(update={"escalations": self.escalations})
        for turn in due(self.rules, facts, memory, weigh(self.rules, facts, last_done_s(self.changes))):
            kept = [one for one in self.escalations if one.decision != turn.escalation.decision]
            self.escalations = (*kept, turn.escalation)
        memory = memory.model_copy(update={"escalations": self.escalations})
        made = decide(self.rules, facts, memory)
        if made.action is Action.NO_ACTION:
            return
        self.moves.append((self.second, made.target, made.reason_code))
        self.changes += (
            Change(
                decision=f"d{len(self.moves)}", at_s=now_s, action=made.action, current=made.current,
                target=made.target, cause=made.cause, limit=made.limit, expected=dict(made.expected),
                before=self.measured(*span_before(now_s, self.rules.tuning.effectiveness)), reverses=made.reverses,
            ),
        )  # fmt: skip
        self.changes = self.changes[-KEPT_CHANGES:]
        self.replicas, self.since = made.target, self.second + 1


def values(replicas: int, latency_ms: float, rate: float = 240.0, cpu: float = 0.6, errors: float = 0.0) -> Values:
    return {
        "routing_latency": latency_ms, "cpu_usage": cpu * 2 / replicas, "request_rate": rate / replicas,
        REQUEST_RATE: rate, ERROR_RATE: errors,
    }  # fmt: skip


def queue(rate: float, each: float, begins: int) -> Answer:
    """A line that grows while more comes than the replicas serve, ``each`` requests/s each, seen by the time in it."""
    waiting = 0.0

    def answer(second: int, replicas: int, _: int) -> Values:
        nonlocal waiting
        offered = rate if second >= begins else rate / 10
        waiting = max(0.0, waiting + offered - each * replicas)
        return values(replicas, 20 + waiting / (each * replicas) * 1000, offered, cpu=0.5)

    return answer


def test_a_backlog_that_takes_long_to_work_off_is_not_blamed_on_the_replicas_that_work_it_off() -> None:
    for rate, counts in ((60, [4]), (70, [4]), (80, [4]), (95, [3, 6])):
        course = Course(RELAYCORE, queue(rate, 25, begins=20), 2).run(200)
        assert [count for _, count, _ in course.moves] == counts, rate
        assert course.verdicts[-1] == "helped", rate
        assert "worse" not in course.verdicts, rate


def test_what_was_undone_in_vain_is_made_again_and_stays() -> None:
    def cold(second: int, replicas: int, ago: int) -> Values:
        """New replicas fail for a quarter of a minute, and are needed."""
        failing = replicas > 2 and ago < 15
        return values(replicas, 500 if replicas < 4 else 40, errors=0.1 if failing else 0.0)

    course = Course(RELAYCORE, cold, 2).run(2_000)
    assert [move[1:] for move in course.moves] == [(4, "rule_exceeded"), (2, "rollback"), (4, "rule_exceeded")]
    assert course.verdicts == ["worse", "worse", "worse"]


def test_an_escalation_ends_when_undoing_shows_that_the_replicas_were_needed() -> None:
    def lasting(second: int, replicas: int, ago: int) -> Values:
        """Six are right, but need 20 s to be; after a first time with six, fewer are far too slow."""
        grown.append(replicas >= 6)
        if replicas >= 6:
            return values(replicas, 600 if ago < 20 else 40, cpu=0.1)
        return values(replicas, 2_000 if any(grown) else 500, cpu=0.1)

    grown: list[bool] = []
    course = Course(relaycore(min=2), lasting, 2).run(200)
    assert (4, "rollback") in [move[1:] for move in course.moves]
    assert course.escalations[0].over_s is not None
    assert course.replicas >= 6


def test_scale_ups_that_are_undone_each_time_end_in_an_escalation_though_the_cause_rests_meanwhile() -> None:
    def failing(second: int, replicas: int, ago: int) -> Values:
        """More replicas are quick because they fail; with two it grows slower and slower."""
        many = replicas > 2
        return values(replicas, 40 if many else min(40 + 4 * ago, 2_000), errors=0.1 if many else 0.0, cpu=0.5)

    course = Course(relaycore(), failing, 2).run(1_500)
    assert [move[1:] for move in course.moves] == [(4, "rule_exceeded"), (2, "rollback")] * 2
    assert [one.over_s for one in course.escalations] == [None]


def test_a_service_that_looks_idle_and_is_not_is_tried_half_as_often_each_time() -> None:
    def deceptive(second: int, replicas: int, ago: int) -> Values:
        return values(replicas, 200 if replicas < 4 else 40, rate=40, cpu=0.1) | {"queue_length": 0.0}

    course = Course(RELAYCORE, deceptive, 4).run(5_000)
    downs = [second for second, _, code in course.moves if code == "idle"]
    waits = [later - sooner for sooner, later in pairwise(downs)]
    assert waits == [600, 1_200, 2_400]
