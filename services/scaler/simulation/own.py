"""The scaler's own decisions over the simulated service: the same facts, memory, results and effects as in life. Pure.

What is not simulated: memory, GPU and breaches. ``routing_latency`` is the time in line; memory and GPU read 0, so that
they neither ask for replicas nor keep any.
"""

from collections import deque

import numpy as np

from services.scaler.decision import Decision
from services.scaler.demand import REMEMBERED_S, demand
from services.scaler.effect import REQUEST_RATE, effect_of, finished, latency_limits, span_before
from services.scaler.history import KEPT_CHANGES, Tracker
from services.scaler.policy import decide
from services.scaler.simulation.replicas import Second
from services.scaler.situation import LATEST_S, Change, Demand, Facts, Observation, Reading, undecided
from services.scaler.sizing import CAUSE
from shared.contracts.scaling import Action
from shared.contracts.scaling_rules import RULE_METRICS, ServiceRules


class Own:
    """One service under these rules."""

    def __init__(self, service: str, rules: ServiceRules) -> None:
        self._service, self._rules = service, rules
        self._tracker = Tracker()
        self._seconds: deque[Second] = deque(maxlen=90)
        self._offered: deque[float] = deque(maxlen=REMEMBERED_S)
        self._changes: tuple[Change, ...] = ()
        self._service_s: float | None = None
        self.decisions: list[tuple[int, Decision]] = []

    def wanted(self, second: Second) -> int:
        self._offered.append(_offered(self._seconds[-1] if self._seconds else None, second))
        self._seconds.append(second)
        seen = Observation(desired=second.desired, ready=second.ready, starting=second.desired - second.ready)
        self._follow(seen, second.at_s)
        facts = Facts(
            service=self._service,
            now_s=second.at_s,
            observation=seen,
            readings=self._readings(second),
            demand=self._demand(second),
        )
        decision = decide(self._rules, facts, self._tracker.look(self._rules, facts, self._changes))
        if decision.action is Action.NO_ACTION:
            return second.desired
        self.decisions.append((second.at_s, decision))
        self._note(decision, second.at_s)
        return decision.target

    def _demand(self, second: Second) -> Demand | None:
        if self._rules.sizing is None:
            return None
        last = list(self._seconds)[-round(self._rules.sizing.panic.stable) :]
        served = sum(one.served for one in last)
        if served:
            self._service_s = sum(one.busy for one in last) / served
        if self._service_s is None:
            return None
        return demand(np.array(self._offered), second.waiting, self._service_s, self._rules.sizing)

    def _readings(self, second: Second) -> dict[str, Reading]:
        window = round(self._rules.tuning.window)
        last = [_values(one) for one in list(self._seconds)[-window:]]
        readings = {}
        for name in RULE_METRICS:
            values = [one[name] for one in last if name in one]
            latest = [one[name] for one in last[-round(LATEST_S) :] if name in one]
            value = sum(values) / len(values) if values else None
            readings[name] = Reading(
                value=value,
                latest=sum(latest) / len(latest) if latest else value,
                reported=second.ready,
                idle=value is None,
                span_s=min(second.at_s, window),
            )
        return readings

    def _follow(self, seen: Observation, now_s: float) -> None:
        """Result and effect of the change that is under way."""
        change, tuning = undecided(self._changes), self._rules.tuning.effectiveness
        if change is None:
            return
        if change.ok is None:
            outcome = finished(change, seen, now_s, tuning)
            if outcome is not None:
                self._put(change.model_copy(update={"ok": outcome[0], "done_s": now_s}))
        elif effect := effect_of(change, self._measured, now_s, tuning, latency_limits(self._rules)):
            self._put(change.model_copy(update={"verdict": effect.verdict}))

    def _note(self, decision: Decision, now_s: float) -> None:
        overtaken = undecided(self._changes)
        if overtaken is not None:
            self._put(overtaken.model_copy(update={"verdict": "unknown"}))
        change = Change(
            decision=f"{self._service}-{len(self.decisions)}",
            at_s=now_s,
            action=decision.action,
            current=decision.current,
            target=decision.target,
            cause=decision.cause,
            limit=decision.limit,
            before=self._measured(*span_before(now_s, self._rules.tuning.effectiveness)),
            expected=dict(decision.expected),
            reverses=decision.reverses,
        )
        self._changes = (*self._changes, change)[-KEPT_CHANGES:]

    def _put(self, change: Change) -> None:
        self._changes = tuple(change if one.decision == change.decision else one for one in self._changes)

    def _measured(self, begin_s: float, end_s: float) -> dict[str, float]:
        sums: dict[str, list[float]] = {}
        for second in self._seconds:
            if begin_s <= second.at_s <= end_s:
                values = _values(second) | {REQUEST_RATE: float(second.served)}
                if self._rules.sizing and second.ready:
                    values[CAUSE] = second.busy / second.ready
                for name, value in values.items():
                    sums.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in sums.items()}


def _offered(before: Second | None, second: Second) -> float:
    inside = second.in_flight + second.waiting
    return max(0.0, second.served + inside - (before.in_flight + before.waiting if before else 0))


def _values(second: Second) -> dict[str, float]:
    """One scrape by the names of rules, per ready replica; a latency is absent where nothing was answered."""
    ready = max(second.ready, 1)
    values = {
        "cpu_usage": second.utilization,
        "memory_ratio": 0.0,
        "gpu_usage": 0.0,
        "request_rate": second.served / ready,
        "requests_in_flight": (second.in_flight + second.waiting) / ready,
        "queue_length": second.waiting / ready,
    }
    if second.p95_s is not None and second.line_s is not None:
        values |= {"response_time": second.p95_s * 1e3, "routing_latency": second.line_s * 1e3}
    return values
