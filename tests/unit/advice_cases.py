"""Evidence, facts and traced calls for the tests of advice, each with few fields to say."""

from datetime import timedelta
from typing import Any

from services.validator.evidence import Evidence
from services.validator.facts import Facts
from services.validator.hop_change import HopChange
from services.validator.hop_table import TracedCall
from services.validator.hops import Hop, break_down
from shared.contracts.benchmarks import Benchmark
from shared.contracts.run import Phase
from shared.store.figures import Step
from tests.unit.traces import polled_workflow
from tests.unit.validator_frames import START, START_S, desired, state

NAMES = {"autmatrix-backend": "AutoMatrix", "relaycore": "RelayCore", "neuroweaver-backend": "NeuroWeaver"}
MADE: dict[str, dict[str, Any]] = {
    "response_time": {"metric": "api_response_time", "target": 200, "critical": 500, "unit": "ms"},
    "workflow_time": {"metric": "workflow_execution_time", "target": 30_000, "critical": 60_000, "unit": "ms"},
    "error_rate": {"metric": "error_rate", "target": 0.01, "critical": 0.05, "unit": "ratio"},
    "throughput": {
        "metric": "throughput", "target": 100, "critical": 50, "unit": "requests/s", "better": "higher",
    },
    "resource": {"metric": "routing_latency", "target": 50, "critical": 100, "unit": "ms"},
}  # fmt: skip


def benchmark(source: str = "response_time", **changes: Any) -> Benchmark:
    return Benchmark.model_validate({"better": "lower", "source": source, **MADE[source], **changes})


def evidence(source: str = "response_time", value: float = 700.0, **seen: Any) -> Evidence:
    """AutoMatrix broke a benchmark; a resource is RelayCore's."""
    about = seen.pop("benchmark", None) or benchmark(source)
    display, service = ("RelayCore", "relaycore") if source == "resource" else ("AutoMatrix", "autmatrix-backend")
    return Evidence(display, service, about, value, about.target, names=NAMES, **seen)


def change(
    service: str,
    kept_ms: float,
    broken_ms: float,
    *,
    kind: Any = "own",
    via: str = "",
    path: tuple[float, float] | None = None,
) -> HopChange:
    kept_path, broken_path = path or (kept_ms, broken_ms)
    return HopChange(Hop(service, kind, via), 100, 100, kept_ms, broken_ms, kept_path, broken_path)


def step(
    second: int, *, system: str = "autmatrix", kind: int = 0, count: int = 100, failed: int = 0, ms: float = 50.0
) -> Step:
    """``second`` after the start; every percentile is ``ms``."""
    scenario = "story" if kind else ""
    return Step(system, scenario, kind, START_S + second, count, failed, ms, ms, ms, ms, ms, ms)


def facts(seconds: float = 60, **fields: Any) -> Facts:
    """A run of so many seconds without ramp-up that calls AutoMatrix; ``scenario`` changes what it does."""
    asked = desired(**fields.pop("scenario", {}))
    return Facts(asked, state(seconds, Phase.FINISHED, started=START), **fields)


def reading(second: int, value: float, metric: str = "routing_latency", system: str = "relaycore") -> dict[str, Any]:
    service = {"autmatrix": "autmatrix-backend", "neuroweaver": "neuroweaver-backend"}.get(system, system)
    told = {"mean": value, "max": value, "sum": value}
    return {"service": service, "system": system, "metric": metric, "second": START_S + second, **told}


def traced(number: int, started_s: float, queue_ms: float = 20.0, *, drawn: bool = True) -> TracedCall:
    """A workflow through all three systems that waits so long in RelayCore."""
    spans = polled_workflow(queue_ms=queue_ms)
    breakdown = break_down(spans)
    assert breakdown
    began_us = round((START + timedelta(seconds=started_s)).timestamp() * 1e6)
    return TracedCall(f"{number:032x}", breakdown, drawn, began_us, tuple(spans))
