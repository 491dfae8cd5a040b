"""A decision in plain words: what was seen, what each metric asked for, which bounds held, what came of it. Pure."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from pydantic import ValidationError

from services.scaler.records import replay_inputs
from services.scaler.situation import Change, Facts, Memory, Observation, Reading
from shared.contracts.scaling import Action, Candidate, Clamp, ScalingRecord
from shared.contracts.scaling_rules import ServiceRules

CLAMPS = {
    "stabilize_up": "the least that was wanted within the stabilization window up",
    "stabilize_down": "the most that was needed within the stabilization window down",
    "rate": "the most that may be added at once",
    "max": "the maximum of the service",
    "limits": "the limits of the service",
    "capacity": "the room on the nodes",
    "budget": "what the other services leave of the budget",
    "load": "what the load of now needs",
}
"""What each bound is; one that is not named here goes by its own name."""


def explain(decision: ScalingRecord, followed: Iterable[ScalingRecord]) -> list[str]:
    """Lines of text. ``followed``: what the chain says of the decision afterwards, in its order."""
    lines = [
        f"{decision.decision}, decided at {_time(decision.at)} UTC by epoch {decision.lease_epoch}, "
        f"policy {decision.policy_version}",
        f"  decision    {_action(decision)}",
        f"  because     {decision.reason} ({decision.reason_code})",
    ]
    if decision.confidence is not None:
        lines.append(f"  confidence  {decision.confidence:.2f}")
    if decision.expected:
        expected = ", ".join(f"{name} {value:g}" for name, value in decision.expected.items())
        lines.append(f"  expected    {expected}")
    if decision.recommendation:
        lines.append(f"  advice      {decision.recommendation}")
    if decision.order:
        lines.append(f"  order       {decision.order}, of {decision.by}")
    try:
        lines += _situation(*replay_inputs(decision))
    except (KeyError, ValidationError):
        lines.append("  situation   its record does not tell it in a way that is still known")
    lines += _listed("candidates", map(_candidate, decision.candidates), "nothing was weighed")
    lines += _listed("bounds", map(_clamp, decision.clamps), "none changed the count")
    outcomes = [_outcome(record) for record in followed if record.kind != "decision"]
    nothing = "nothing was to come of it" if _stays(decision) else "nothing is told of it yet"
    return lines + _listed("came of it", outcomes, nothing)


def _situation(rules: ServiceRules, facts: Facts, memory: Memory) -> Iterator[str]:
    seen = facts.observation
    words = f"not observed: {facts.unobserved}" if seen is None else _replicas(seen)
    yield f"  replicas    {words}; {rules.min} to {rules.max} are allowed"
    readings = [f"{name} {_reading(reading)}" for name, reading in facts.readings.items()]
    if facts.room is not None:
        yield f"  room        for {facts.room} more on the nodes"
    if facts.shares is not None:
        bounds = ", ".join(f"{name} {bound:g}" for name, bound in facts.shares.bounds.items())
        held = ", ".join(f"{one.service} {one.replicas}" for one in facts.shares.holdings)
        yield f"  budget      {bounds}; replicas held: {held}"
    yield from _listed("readings", readings, "none")
    breaches = [f"{one.system} {one.metric} {one.value:g} over {one.limit:g} ({one.level})" for one in facts.breaches]
    yield from _listed("breaches", breaches, "none is open")
    yield from _listed("remembered", _memory(memory, facts.now_s), "nothing")


def _replicas(seen: Observation) -> str:
    parts = [f"{seen.ready} of {seen.desired} ready"]
    parts += [
        f"{count} {state}" for state, count in (("starting", seen.starting), ("unhealthy", seen.unhealthy)) if count
    ]
    parts += [f"{seen.restarting} restarting over and over"] if seen.restarting else []
    return ", ".join([*parts, "an update is under way"] if seen.updating else parts)


def _reading(reading: Reading) -> str:
    if reading.idle:
        return "has no value, as nobody asked"
    silent = f", {reading.missing} silent" if reading.missing else ""
    if reading.value is None:
        return f"has no value{silent}"
    latest = "" if reading.latest is None else f", lately {reading.latest:g}"
    return f"{reading.value:g}{latest}, over {reading.span_s:g} s, from {reading.reported} of its sources{silent}"


def _memory(memory: Memory, now_s: float) -> Iterator[str]:
    if memory.idle_since_s is not None:
        yield f"idle for {now_s - memory.idle_since_s:.0f} s"
    if memory.watched_since_s is not None:
        yield f"watched without a gap for {now_s - memory.watched_since_s:.0f} s"
    if memory.highest_wanted:
        yield f"{memory.highest_wanted} replicas were needed at most within the stabilization window"
    for cause, since_s in memory.loud_since_s.items():
        yield f"{cause} has asked for more for {now_s - since_s:.0f} s"
    for one in memory.escalations:
        if one.over_s is None:
            yield f"given up for {one.cause} since {now_s - one.at_s:.0f} s"
    if memory.changes:
        yield f"the last change: {_change(memory.changes[-1], now_s)}"


def _change(change: Change, now_s: float) -> str:
    became = "under way" if change.ok is None else (change.verdict or "its effect is open") if change.ok else "failed"
    moved = f"{change.current} → {change.target} for {change.cause}"
    return f"{change.decision}, {moved}, {now_s - change.at_s:.0f} s ago, {became}"


def _candidate(candidate: Candidate) -> str:
    value = "no value" if candidate.value is None else f"{candidate.value:g}"
    limit = "" if candidate.limit is None else f", limit {candidate.limit:g}"
    asks = f"asks for {candidate.replicas}" if candidate.holds else "asks for nothing"
    return f"{candidate.source}: {value}{limit}: {asks}" + (f" ({candidate.note})" if candidate.note else "")


def _clamp(clamp: Clamp) -> str:
    return f"{clamp.name}: {clamp.before} → {clamp.after}" + (f", {CLAMPS[clamp.name]}" if clamp.name in CLAMPS else "")


def _outcome(record: ScalingRecord) -> str:
    if record.kind == "result":
        words = f"{record.ready} replicas ready" if record.ok else f"failed: {record.error}"
        return f"{_time(record.at)}: {words}" + ("" if record.took_s is None else f", after {record.took_s:g} s")
    if record.kind == "effectiveness":
        return f"{_time(record.at)}: {record.verdict}: {record.reason}"
    return f"{_time(record.at)}: {record.kind}: {record.reason or record.reason_code}"


def _action(decision: ScalingRecord) -> str:
    if _stays(decision):
        return f"hold at {decision.current} replicas"
    dry = ", as a dry run: nothing is moved" if decision.dry_run else ""
    return f"{decision.action} from {decision.current} to {decision.target} replicas{dry}"


def _stays(decision: ScalingRecord) -> bool:
    return decision.action is Action.NO_ACTION


def _listed(title: str, items: Iterable[str], nothing: str) -> list[str]:
    """Lines under a title that stands at the first."""
    listed = list(items) or [nothing]
    return [f"  {title if number == 0 else '':<12}{item}" for number, item in enumerate(listed)]


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
