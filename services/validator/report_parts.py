"""The descriptive sections of a report: what was run, every line of results, the generator, scaling."""

from typing import Any

from services.validator.facts import Facts
from services.validator.report_timeline import generator_course
from shared.contracts.run import Phase
from shared.contracts.timing import ErrorKind, Kind
from shared.store.figures import SeriesResult, Streaming, Times

Json = dict[str, Any]
_QUANTILES = ("p50", "p90", "p95", "p99", "p999")


def run_section(facts: Facts) -> Json:
    """What was asked and how it went."""
    desired, state, span = facts.desired, facts.state, facts.span
    return {
        "run": desired.run,
        "environment": desired.environment,
        "phase": state.phase.value,
        "stopped": state.phase is Phase.STOPPED,
        "reason": state.reason,
        "suite": desired.suite,
        "requested_by": desired.requested_by,
        "requested_at": desired.requested_at.isoformat(),
        "started_at": span.started.isoformat(),
        "judged_from": span.judged_from.isoformat(),
        "ended_at": span.ended.isoformat(),
        "duration_s": round(span.duration_s, 3),
        "users": desired.users,
        "scenarios": [
            {
                "scenario": load.scenario.name,
                "title": load.scenario.title,
                "users": load.users,
                "rate": load.rate,
                "profile": load.profile,
                "duration_s": load.duration_s,
                "ramp_up_s": load.ramp_up_s,
            }
            for load in desired.loads
        ],
        "targets": dict(desired.targets),
        "lost_workers": [lost.model_dump(mode="json") for lost in state.lost],
    }


def list_results(facts: Facts) -> list[Json]:
    """One line per system, scenario and action, over the whole run with nothing excluded."""
    return [_result(facts, series) for series in facts.series if series.kind is Kind.REQUEST]


def list_workflows(facts: Facts) -> list[Json]:
    """One line per scenario; a workflow's time spans its requests, polls and think time."""
    return [
        {**_result(facts, series), "count": series.stored} for series in facts.series if series.kind is Kind.WORKFLOW
    ]


def generator_health(facts: Facts) -> Json:
    """The generator's own state: what it was, and whether it spoiled the measurement."""
    systems = {
        system: {
            "at_fault": facts.at_fault(system),
            "seconds": health.seconds,
            "seconds_at_fault": health.seconds_at_fault,
            "frames": health.frames,
            "frames_redelivered": health.redelivered_frames,
            "frames_given_up": health.frames_given_up,
            "worst_loop_lag_ms": health.loop_lag_us / 1e3,
            "worst_schedule_error_ms": health.schedule_error_us / 1e3,
            "highest_cpu": health.cpu_permille / 1e3,
            "highest_backlog_events": health.backlog_events,
            "highest_spooled_events": health.spooled_events,
        }
        for system, health in sorted(facts.observed.health.items())
    }
    return {
        "at_fault": any(entry["at_fault"] for entry in systems.values()),
        "workers": len({worker.worker for worker in facts.state.workers} | {x.worker for x in facts.state.lost}),
        "lost": [lost.model_dump(mode="json") for lost in facts.state.lost],
        "gone": facts.state.gone.model_dump(mode="json"),
        "clock_skew_ms": {
            worker.worker: worker.clock_skew_ms for worker in facts.state.workers if worker.clock_skew_ms is not None
        },
        "held_back": [
            {"worker": worker.worker, **time.model_dump(mode="json")}
            for worker in facts.state.workers
            for time in worker.held_back
        ],
        "systems": systems,
        "course": generator_course(facts),
    }


def list_scaling(facts: Facts) -> list[Json]:
    """Every decision during the run with its result and whether it helped."""
    decisions: dict[tuple[str, str], Json] = {}
    for record in facts.scaling:
        key = (record["service"], record["decision"])
        if record["kind"] == "decision":
            names = ("decision", "service", "at", "action", "current", "target", "reason", "confidence", "breaches")
            decisions[key] = {name: record.get(name) for name in names} | {"result": None, "effectiveness": None}
        elif key in decisions and record["kind"] == "result":
            decisions[key]["result"] = {name: record.get(name) for name in ("at", "ok", "ready", "took_s", "error")}
        elif key in decisions and record["kind"] == "effectiveness":
            decisions[key]["effectiveness"] = {name: record.get(name) for name in ("verdict", "before", "after")}
    return list(decisions.values())


def _result(facts: Facts, series: SeriesResult) -> Json:
    duration_s = facts.span.duration_s
    line = (series.scenario, series.action, series.kind)
    succeeded = series.stored - series.failed - series.cancelled
    return {
        "system": series.system,
        "scenario": series.scenario,
        "action": series.action,
        "sent": series.sent,
        "stored": series.stored,
        "held": series.held,
        "missing": series.sent - series.stored - series.held,
        "duplicates": facts.observed.duplicates.get((series.system, line), 0),
        "succeeded": succeeded,
        "failed": series.failed,
        "cancelled": series.cancelled,
        "errors": {_error_name(kind): count for kind, count in sorted(series.errors.items())},
        "error_rate": series.failed / series.stored if series.stored else None,
        "throughput": series.stored / duration_s if duration_s > 0 else None,
        "service_time_ms": _times(series.service),
        "response_time_ms": _times(series.response),
        "streaming": _streaming(series.streaming),
    }


def _streaming(streaming: Streaming | None) -> Json | None:
    """Streamed answers; None where there were none. ``tokens_per_s``: of one answer after its first token."""
    if streaming is None:
        return None
    return {
        "answers": streaming.answers,
        "tokens": streaming.tokens,
        "tokens_per_s": None if streaming.tokens_per_s is None else round(streaming.tokens_per_s, 3),
        "time_to_first_token_ms": _percentiles(streaming.first_token),
        "longest_gap_ms": _percentiles(streaming.longest_gap),
    }


def _times(times: Times) -> Json:
    figures = {"mean": times.mean, **{q: times.percentiles.get(q) for q in _QUANTILES}, "max": times.max}
    return {name: None if value is None else round(value, 3) for name, value in figures.items()}


def _percentiles(times: Times) -> Json:
    return {name: round(value, 3) for name, value in times.percentiles.items()}


def _error_name(kind: int) -> str:
    return ErrorKind(kind).name.lower() if kind in set(ErrorKind) else str(kind)
