"""Breaches, scaling records and reports for the console's tests, each with few fields to say."""

from datetime import UTC, datetime, timedelta
from typing import Any

from shared.contracts.breach import Breach, BreachStatus, BreachWindow
from shared.contracts.scaling import GENESIS, Action, ScalingRecord

BEGUN = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)
ENDED = BEGUN + timedelta(seconds=60)


def at(seconds: float) -> datetime:
    return BEGUN + timedelta(seconds=seconds)


def breach(status: BreachStatus = BreachStatus.OPENED, resolved_s: float | None = None, **changes: Any) -> Breach:
    resolved_at = None if resolved_s is None else at(resolved_s)
    whole = Breach(
        breach="b1",
        revision=1,
        status=status,
        environment="local",
        run="run-1",
        system="relaycore",
        service="relaycore",
        metric="routing_latency",
        series="relaycore",
        level="critical",
        statistic="mean",
        value=132.0,
        limit=100.0,
        target=50.0,
        critical=100.0,
        unit="ms",
        better="lower",
        confidence=0.99,
        samples=10,
        window=BreachWindow(start=at(4), end=at(10), seconds=6),
        opened_at=at(10),
        resolved_at=resolved_at,
    )
    return whole.model_copy(update=changes)


def record(kind: str = "decision", decision: str = "d1", at_s: float = 12.0, **fields: Any) -> ScalingRecord:
    own: dict[str, Any] = {}
    if kind == "decision":
        own = {"action": Action.SCALE_UP, "current": 2, "target": 4, "reason": "routing_latency is 132, above 75"}
    elif kind == "result":
        own = {"ok": True, "ready": 4, "took_s": 1.5}
    return ScalingRecord.model_validate(
        {
            "kind": kind,
            "decision": decision,
            "service": "relaycore",
            "system": "relaycore",
            "environment": "local",
            "at": at(at_s),
            "sequence": 1,
            "lease_epoch": 1,
            "previous_hash": GENESIS,
            **own,
            **fields,
        }
    )


def result(action: str = "look", sent: int = 10, **changes: Any) -> dict[str, Any]:
    times = {"mean": 5.0, "p50": 4.0, "p90": 9.0, "p95": 12.5, "p99": 20.0, "p999": 30.0, "max": 31.0}
    row = {
        "system": "autmatrix",
        "scenario": "small",
        "action": action,
        "sent": sent,
        "stored": sent,
        "held": 0,
        "missing": 0,
        "duplicates": 0,
        "failed": 0,
        "throughput": 1.5,
        "response_time_ms": times,
    }
    return {**row, **changes}


def comparison(verdict: str = "met", **changes: Any) -> dict[str, Any]:
    row = {
        "system": "autmatrix",
        "metric": "api_response_time",
        "statistic": "p95",
        "unit": "ms",
        "target": 200.0,
        "critical": 500.0,
        "actual": 12.5,
        "deviation": -0.94,
        "verdict": verdict,
        "samples": 10,
        "note": "",
    }
    return {**row, **changes}


def hops(hop: str = "relaycore", **changes: Any) -> dict[str, Any]:
    times = {"mean": 9.0, "p50": 8.0, "p95": 61.0}
    rows = [
        {"hop": hop, "share": 0.61, "calls": 900, "own_ms": times, "path_ms": times},
        {"hop": "neuroweaver-backend", "share": 0.39, "calls": 900, "own_ms": times, "path_ms": times},
    ]
    slowest = [{"trace_id": "ab" * 16, "duration_ms": 812.0, "slowest_hop": hop}]
    section = {"scenario": "small", "traces": 300, "duration_ms": times, "slowest_hop": hop, "hops": rows}
    return {**section, "slowest": slowest, **changes}


def report(**changes: Any) -> dict[str, Any]:
    whole = {
        "run": {
            "run": "run-1",
            "phase": "finished",
            "reason": "",
            "started_at": BEGUN.isoformat(),
            "ended_at": ENDED.isoformat(),
        },
        "verdict": "met",
        "exit_code": 0,
        "overall_score": 97.4,
        "system_scores": {"autmatrix": {"score": 97.4}},
        "critical_issues": [],
        "recommendations": [],
        "benchmark_comparison": [comparison()],
        "gates": [],
        "workflows": [],
        "results": [result()],
        "timeline": {"step_s": 1, "points": []},
    }
    return {**whole, **changes}
