"""The summary of one day of a canary run as plain JSON, from facts and benchmarks alone. Pure.

Benchmarks are judged hour by hour over what the store holds, with the same tests as windows, so that a canary of few
requests is judged too, and a day that nobody watched; minutes in breach are those of the breaches that were told.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.validator.board import concerns
from services.validator.canary import CanaryRun, Span
from services.validator.demand import Asked, completions
from services.validator.drift import Finding
from services.validator.health import GeneratorHealth
from services.validator.measuring import kind_of
from services.validator.samples import Failures, Latencies, Sample
from services.validator.verdict import Verdict, judge
from shared.contracts.benchmarks import QUANTILES, Benchmark, Benchmarks, Source, samples_to_confirm
from shared.contracts.breach import Breach
from shared.contracts.timing import Kind
from shared.contracts.window import Exemplar
from shared.histogram import Histogram
from shared.store.figures import SpanTotals, Stored

Json = dict[str, Any]
HOUR_S = 3_600.0
HOUR_SIGNIFICANCE = 0.001
"""One judgement an hour and benchmark, not one a second."""
BREACHES_LISTED = 50
_HEALTH = ("seconds", "seconds_at_fault", "frames", "redelivered_frames", "frames_given_up")


@dataclass(frozen=True, slots=True)
class DayFacts:
    """Everything of one day. ``since`` to ``until``: the part of it that the run went on.

    ``hours``: a row per hour and action. ``before``: the summary of the run's day before, ``own``: of this day where it
    is written anew for late data; None where there is none. ``findings`` are None where the day cannot be compared.
    """

    run: CanaryRun
    span: Span
    zone: str
    since: datetime
    until: datetime
    complete: bool
    hours: Sequence[SpanTotals] = ()
    stored: Stored = field(default_factory=lambda: Stored(0, 0, 0, {}))
    findings: Sequence[Finding] | None = None
    breaches: Sequence[Breach] = ()
    slowest: Sequence[tuple[str, Exemplar]] = ()
    health: Mapping[str, GeneratorHealth] = field(default_factory=dict)
    before: Mapping[str, Any] | None = None
    own: Mapping[str, Any] | None = None

    @property
    def events(self) -> int:
        return sum(row.stored for row in self.hours)

    @property
    def seconds(self) -> float:
        return max(0.0, (self.until - self.since).total_seconds())


def build_summary(benchmarks: Benchmarks, facts: DayFacts) -> Json:
    """The day in JSON; the same facts always give the same."""
    requests = [row for row in facts.hours if row.kind is Kind.REQUEST]
    totals = _totals(facts)
    missing = _missing(facts, totals)
    stored, failed = sum(row.stored for row in requests), sum(row.failed for row in requests)
    counted = sum(row.count for row in requests)
    return {
        "run": facts.run.run,
        "canary": facts.run.name,
        "environment": facts.run.desired.environment,
        "day": facts.span.day.isoformat(),
        "time_zone": facts.zone,
        "from": facts.since.isoformat(),
        "until": facts.until.isoformat(),
        "complete": facts.complete,
        "requests": {
            "sent": stored + missing,
            "stored": stored,
            "missing": missing,
            "failed": failed,
            "cancelled": sum(row.cancelled for row in requests),
            "error_rate": round(failed / counted, 6) if counted else None,
            "per_second": round(counted / facts.seconds, 3) if facts.seconds else None,
        },
        "benchmarks": [
            _benchmark(facts, system, benchmark)
            for system, owner in benchmarks.systems.items()
            for benchmark in owner.benchmarks
            if concerns(benchmarks, facts.run.desired, system, benchmark)
        ],
        "actions": _actions(facts, Kind.REQUEST),
        "workflows": _actions(facts, Kind.WORKFLOW),
        "drift": _drift(facts),
        "breaches": _breaches(facts),
        "generator_health": _health(facts, totals),
        "slowest": [
            {"action": action, "trace_id": one.trace_id, "response_time_ms": round(one.response_us / 1e3, 1)}
            for action, one in facts.slowest
        ],
        "totals": totals,
    }


def _benchmark(facts: DayFacts, system: str, benchmark: Benchmark) -> Json:
    """A benchmark's day: hours by verdict, minutes in breach, what it spent of its error budget."""
    hours: Counter[str] | None = None
    spent = None
    if benchmark.source.of_requests:
        rows = [row for row in facts.hours if _is_of(row, system, benchmark)]
        by_hour: dict[datetime, list[SpanTotals]] = defaultdict(list)
        for row in rows:
            by_hour[row.start].append(row)
        hours = Counter(_judge_hour(facts, benchmark, told).value for told in by_hour.values())
        missed = round(facts.seconds / HOUR_S) - len(by_hour)
        hours[Verdict.INSUFFICIENT.value] += max(0, missed)
        spent = _budget_spent(benchmark, rows)
    minutes = sum(
        _overlap_s(breach, facts) / 60
        for breach in facts.breaches
        if (breach.system, breach.metric) == (system, benchmark.metric)
    )
    return {
        "system": system,
        "metric": benchmark.metric,
        "statistic": benchmark.statistic,
        "target": benchmark.target,
        "critical": benchmark.critical,
        "unit": benchmark.unit,
        "hours": None if hours is None else {verdict.value: hours[verdict.value] for verdict in Verdict},
        "minutes_in_breach": round(minutes, 1),
        "share_in_breach": round(minutes * 60 / facts.seconds, 6) if facts.seconds else None,
        "error_budget_spent": None if spent is None else round(spent, 4),
    }


def _is_of(row: SpanTotals, system: str, benchmark: Benchmark) -> bool:
    action = "" if row.kind is Kind.WORKFLOW else row.action
    return row.system == system and row.kind is kind_of(benchmark) and benchmark.chooses(row.scenario, action)


def _judge_hour(facts: DayFacts, benchmark: Benchmark, rows: Sequence[SpanTotals]) -> Verdict:
    least = samples_to_confirm(benchmark.statistic) if benchmark.statistic in QUANTILES else 2
    seconds = min(HOUR_S, facts.seconds)
    sample: Sample
    if benchmark.source is Source.ERROR_RATE:
        sample = Failures(sum(row.count for row in rows), sum(row.failed for row in rows))
    elif benchmark.source is Source.THROUGHPUT:
        # What waits at the end of an hour is of the hour in which it ends.
        asked = [Asked(row.scenario, row.count - row.refused, row.count + row.cancelled) for row in rows]
        sample = completions(asked, facts.run.desired.loads, seconds)
    else:
        sample = Latencies.of(_merged(rows), sum(row.sum_us for row in rows))
    return judge(benchmark, sample, min_samples=least, significance=HOUR_SIGNIFICANCE).verdict


def _budget_spent(benchmark: Benchmark, rows: Sequence[SpanTotals]) -> float | None:
    """Share of what may go wrong in a day that did: 1 is all of it. None for what has no budget."""
    count = sum(row.count for row in rows)
    if not count:
        return None
    if benchmark.source is Source.ERROR_RATE and benchmark.target:
        return sum(row.failed for row in rows) / count / benchmark.target
    q = QUANTILES.get(benchmark.statistic)
    if q is None:
        return None
    return _merged(rows).above(benchmark.target * 1e3) / count / (1 - q)


def _actions(facts: DayFacts, kind: Kind) -> list[Json]:
    """One line per action or workflow, over the whole day."""
    lines: dict[tuple[str, str, str], list[SpanTotals]] = defaultdict(list)
    for row in facts.hours:
        if row.kind is kind:
            lines[row.system, row.scenario, row.action].append(row)
    told = []
    for (system, scenario, action), rows in sorted(lines.items()):
        count, failed = sum(row.count for row in rows), sum(row.failed for row in rows)
        response = _merged(rows)
        times = {name: response.percentile_us(q) for name, q in QUANTILES.items()}
        told.append(
            {
                "system": system,
                "scenario": scenario,
                "action": action,
                "count": count,
                "failed": failed,
                "error_rate": round(failed / count, 6) if count else None,
                "per_second": round(count / facts.seconds, 3) if facts.seconds else None,
                "response_time_ms": {
                    "mean": round(sum(row.sum_us for row in rows) / count / 1e3, 3) if count else None,
                    **{name: None if us is None else round(us / 1e3, 3) for name, us in times.items()},
                    "max": round(max(row.max_us for row in rows) / 1e3, 3) if count else None,
                },
            }
        )
    return told


def _drift(facts: DayFacts) -> Json | None:
    """What differs from past days: figures that drifted, and such as became better; None where none compares."""
    if facts.findings is None:
        return None
    verdicts = Counter(one.verdict for one in facts.findings)
    told = [one for one in facts.findings if one.verdict is Verdict.MISSED or one.improved]
    told.sort(key=lambda one: (one.improved, one.probability))
    return {
        "judged": verdicts[Verdict.MET] + verdicts[Verdict.MISSED],
        "insufficient": verdicts[Verdict.INSUFFICIENT],
        "days": max((one.days for one in facts.findings), default=0),
        "findings": [
            {
                "system": one.system,
                "scenario": one.scenario,
                "action": one.action,
                "metric": one.metric,
                "statistic": one.statistic,
                "unit": one.unit,
                "value": round(one.value or 0.0, 6),
                "baseline": round(one.usual or 0.0, 6),
                "limit": round(one.limit or 0.0, 6),
                "change": round(one.value / one.usual - 1, 4) if one.value is not None and one.usual else None,
                "probability": one.probability,
                "improved": one.improved,
            }
            for one in told
        ],
    }


def _breaches(facts: DayFacts) -> Json:
    listed = sorted(facts.breaches, key=lambda breach: (breach.opened_at, breach.breach))
    return {
        "total": len(listed),
        "open": sum(breach.resolved_at is None for breach in listed),
        "listed": [
            {
                "breach": breach.breach,
                "system": breach.system,
                "metric": breach.metric,
                "action": breach.action,
                "level": breach.level,
                "statistic": breach.statistic,
                "worst": breach.value if breach.worst is None else breach.worst,
                "limit": breach.limit,
                "unit": breach.unit,
                "opened_at": breach.opened_at.isoformat(),
                "resolved_at": None if breach.resolved_at is None else breach.resolved_at.isoformat(),
                "minutes_of_day": round(_overlap_s(breach, facts) / 60, 1),
            }
            for breach in listed[-BREACHES_LISTED:]
        ],
    }


def _overlap_s(breach: Breach, facts: DayFacts) -> float:
    """Seconds of the day in which a breach was open."""
    until = facts.until if breach.resolved_at is None else min(breach.resolved_at, facts.until)
    return max(0.0, (until - max(breach.opened_at, facts.since)).total_seconds())


def _totals(facts: DayFacts) -> Json:
    """What is counted from the run's start, so that the day after can tell its own part."""
    if facts.own is not None:
        # What came late is no longer missing; the rest was as it was.
        late = facts.events - int(facts.own["totals"]["events"])
        kept: Json = dict(facts.own["totals"])
        return kept | {"events": facts.events, "missing": max(0, kept["missing"] - late)}
    stored = facts.stored
    return {
        "events": facts.events,
        "missing": max(0, stored.sent - stored.held - stored.stored),
        "health": {
            system: {name: getattr(health, name) for name in _HEALTH} for system, health in sorted(facts.health.items())
        },
    }


def _missing(facts: DayFacts, totals: Json) -> int:
    before = facts.before["totals"]["missing"] if facts.before else 0
    return max(0, int(totals["missing"]) - int(before))


def _health(facts: DayFacts, totals: Json) -> Json:
    """The generator's day by system; since the validator's start where it began anew within the day."""
    before: Mapping[str, Mapping[str, int]] = facts.before["totals"]["health"] if facts.before else {}
    told = {}
    for system, now in totals["health"].items():
        base = before.get(system, {})
        if any(now[name] < base.get(name, 0) for name in _HEALTH):
            base = {}
        told[system] = {name: now[name] - base.get(name, 0) for name in _HEALTH}
    return told


def _merged(rows: Iterable[SpanTotals]) -> Histogram:
    merged = Histogram()
    for row in rows:
        merged.merge(row.response)
    return merged
