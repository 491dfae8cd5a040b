"""How many replicas each metric and each open breach asks for. Pure; choosing among them is ``policy``.

The ratio form is the HPA's: n = ⌈ready · value / limit⌉, nothing within the tolerance, a silent instance counted as
zero on the way up. Latency and queues have no proportion to replicas: near saturation they grow like 1/(1 − ρ), and
past it with time alone, so their ratio would ask for tens of times what is needed. It is capped at
``tuning.max_factor``; if that was too little, the effect shows it and the next step follows.
"""

import math
import re
from dataclasses import dataclass

from services.scaler.situation import Change, Facts, Observation, OpenBreach, Reading
from services.scaler.sizing import CAUSE as SIZING
from services.scaler.sizing import sized
from shared.contracts.scaling import Candidate
from shared.contracts.scaling_rules import BREACH_METRICS, RULE_METRICS, BreachDriver, ServiceRules, Shape, UpRule

PROJECTED_LOAD = 0.9
"""A scale-down must leave each load metric below this share of its own limit to scale up."""

NOBODY_WAITS = 1.0
"""Mean queue length per replica below which no request waits for a server of this service."""

COVERED = 0.8
"""Share of its window that a rule's reading must cover: the first seconds of a load are not its mean."""

FLAT_LOAD = 0.5
"""Share of its limit below which CPU is no sign of load."""

MOST = 1_000_000
"""Replicas that anything asks for at most, however absurd its value."""

_HOP = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Ask:
    """A candidate with what the policy needs to weigh it. ``barred``: reason code and words why it may not drive."""

    candidate: Candidate
    cause: str
    shape: Shape
    limit: float
    missing_share: float = 0.0
    breach: OpenBreach | None = None
    barred: tuple[str, str] | None = None

    @property
    def drives(self) -> bool:
        return self.candidate.holds and self.barred is None


def weigh(rules: ServiceRules, facts: Facts, last_done_s: float | None = None) -> tuple[Ask, ...]:
    """Everything that speaks for a number of replicas: rules in the order written, open breaches, the load itself.

    ``last_done_s``: when the last change took effect; a breach judged on a window that ended before says nothing new.
    """
    if facts.observation is None:
        return ()
    seen = facts.observation
    asks = [_rule_ask(rules, facts, seen, rule) for rule in rules.up]
    for breach in facts.breaches:
        driver = driver_of(rules, breach)
        if driver is not None:
            asks.append(_breach_ask(rules, facts, seen, driver, breach, last_done_s))
    if rules.sizing is not None:
        # As its effect is judged: by the servers at work of one replica.
        limit = rules.sizing.concurrency * rules.sizing.utilization
        asks += [Ask(candidate, SIZING, Shape.LOAD, limit) for candidate in sized(rules, facts)]
    return tuple(asks)


def driver_of(rules: ServiceRules, breach: OpenBreach) -> BreachDriver | None:
    """The rule by which a breach moves this service; None when it concerns others."""
    for driver in rules.breaches:
        if driver.metric == breach.metric and (driver.system or rules.system) == breach.system:
            return driver
    return None


def needed_for_load(rules: ServiceRules, facts: Facts) -> int:
    """The fewest replicas that keep every load metric below its projected share, u · n / n′ < 0.9 · limit, and that
    sizing asks for; as many as are wanted now where a reading is missing."""
    if facts.observation is None:
        return rules.max
    counts = [rules.min, *(candidate.replicas for candidate in sized(rules, facts))]
    if rules.sizing is not None and (facts.demand is None or facts.demand.missing):
        return max(facts.observation.desired, rules.min)
    loads = load_metrics(rules)
    for metric, limit in loads.items():
        reading = facts.readings.get(metric, Reading())
        if not reading.complete:
            return max(facts.observation.desired, rules.min)
        share = (reading.value or 0.0) / (PROJECTED_LOAD * limit)
        counts.append(math.floor(share * facts.observation.ready) + 1)
    if not loads and rules.sizing is None:
        # Nothing says how load would spread over fewer: one at a time.
        counts.append(facts.observation.desired - 1)
    return max(counts)


def load_metrics(rules: ServiceRules) -> dict[str, float]:
    """The limits of those metrics that more replicas share among them."""
    return {rule.metric: rule.above for rule in rules.up if RULE_METRICS[rule.metric].shape is Shape.LOAD}


def _rule_ask(rules: ServiceRules, facts: Facts, seen: Observation, rule: UpRule) -> Ask:
    metric, limit = rule.metric, rule.above
    shape = RULE_METRICS[metric].shape
    reading = facts.readings.get(metric, Reading(missing=seen.ready))
    source = f"rule:{metric}"
    if reading.value is None:
        note = "no traffic" if reading.idle else "missing"
        candidate = Candidate(source=source, value=None, limit=limit, replicas=seen.desired, holds=False, note=note)
        return Ask(candidate, metric, shape, limit, 0.0 if reading.idle else 1.0)
    counted = reading.reported + reading.missing
    missing_share = reading.missing / counted if counted else 0.0
    # What has already come down again is no reason to move, however high the mean of the window still is.
    value = min(reading.value, reading.value if reading.latest is None else reading.latest) * (1.0 - missing_share)
    ratio = value / limit
    covered = reading.span_s >= COVERED * rules.tuning.window
    holds = covered and ratio > 1.0 + rules.tuning.tolerance
    note = f"{reading.missing} of {counted} instances silent, counted as 0" if reading.missing else ""
    replicas = seen.desired
    if holds:
        replicas = _scaled(rules, seen.ready, ratio, shape)
    elif ratio > 1.0:
        note = note or ("above the limit, within the tolerance" if covered else "above the limit, not yet for a window")
    candidate = Candidate(source=source, value=round(value, 6), limit=limit, replicas=replicas, holds=holds, note=note)
    barred = _not_load_related(rules, facts) if holds and shape is Shape.LATENCY else None
    return Ask(candidate, metric, shape, limit, missing_share, None, barred)


def _breach_ask(
    rules: ServiceRules,
    facts: Facts,
    seen: Observation,
    driver: BreachDriver,
    breach: OpenBreach,
    last_done_s: float | None,
) -> Ask:
    shape = BREACH_METRICS[breach.metric]
    live = _live(rules, facts, breach)
    value = breach.value if live is None else live
    ratio = max(value / breach.limit, 1.0) if breach.limit > 0 else 1.0
    barred = _foreign_hop(rules, facts.service, driver, breach)
    if barred is None and live is not None and live <= breach.limit:
        barred = (
            "recovering",
            f"{breach.metric} is back at {live:g}, within {breach.limit:g}; the breach is still open",
        )
    if barred is None and live is None and last_done_s is not None and breach.judged_s <= last_done_s:
        barred = ("awaiting_breach_update", "the breach speaks of the time before the last change")
    if barred is None and shape is Shape.LATENCY:
        barred = _not_load_related(rules, facts)
    # The validator has proved the limit crossed, so the tolerance does not apply and the least answer is one more.
    replicas = max(_scaled(rules, seen.ready, ratio, shape), seen.ready + 1)
    candidate = Candidate(
        source=f"breach:{breach.metric}",
        value=round(value, 6),
        limit=breach.limit,
        replicas=replicas,
        holds=True,
        note=barred[1] if barred else f"{breach.level} breached",
    )
    return Ask(candidate, breach.metric, shape, breach.limit, 0.0, breach, barred)


def _scaled(rules: ServiceRules, ready: int, ratio: float, shape: Shape) -> int:
    factor = ratio if shape is Shape.LOAD else min(ratio, rules.tuning.max_factor)
    # 1e-9: a ratio of exactly 1.5 over 2 replicas is 3, whatever binary fractions make of it.
    return math.ceil(min(factor * ready, MOST) - 1e-9)


def _live(rules: ServiceRules, facts: Facts, breach: OpenBreach) -> float | None:
    """What instances of this service say now of the very metric of the breach, where they measure it."""
    metric = RULE_METRICS.get(breach.metric)
    reading = facts.readings.get(breach.metric)
    if metric is None or not metric.per_replica or breach.system != rules.system or reading is None:
        return None
    return reading.latest if reading.missing == 0 else None


def _foreign_hop(rules: ServiceRules, service: str, driver: BreachDriver, breach: OpenBreach) -> tuple[str, str] | None:
    hop = _HOP.match(breach.slowest_hop)
    own = hop is not None and hop[0] in (service, rules.system)
    if own or (hop is None and not driver.only_when_slowest):
        return None
    where = f"the time was spent in {hop[0]}" if hop else "the breach does not say where the time was spent"
    return "spent_elsewhere", f"{breach.metric}: {where}"


def _not_load_related(rules: ServiceRules, facts: Facts) -> tuple[str, str] | None:
    """Slow, yet nobody waits in line and the CPU is idle: the time is spent where replicas cannot shorten it."""
    if not is_flat(rules, facts):
        return None
    waiting, busy = _at_most(facts.readings["queue_length"]), _at_most(facts.readings["cpu_usage"])
    return (
        "not_load_related",
        f"slow while {waiting:.1f} requests wait per replica and the CPU is at {busy:.0%}: the time is spent elsewhere",
    )


def is_flat(rules: ServiceRules, facts: Facts) -> bool:
    """Whether queue and CPU are read from every replica, nobody waits and the CPU is far from its limit."""
    queue, cpu = facts.readings.get("queue_length", Reading()), facts.readings.get("cpu_usage", Reading())
    limit = next((rule.above for rule in rules.up if rule.metric == "cpu_usage"), 1.0)
    return queue.complete and cpu.complete and not requests_wait(facts.readings) and _at_most(cpu) < FLAT_LOAD * limit


def requests_wait(readings: dict[str, Reading]) -> bool:
    """Whether requests wait in line, over the window or at last."""
    return _at_most(readings.get("queue_length", Reading())) >= NOBODY_WAITS


def _at_most(reading: Reading) -> float:
    return max(reading.value or 0.0, reading.latest or 0.0)


def last_done_s(changes: tuple[Change, ...]) -> float | None:
    """When the latest successful change took effect."""
    return max((change.done_s for change in changes if change.ok and change.done_s is not None), default=None)
