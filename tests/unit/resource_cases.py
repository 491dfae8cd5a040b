"""Short ways to write what a service used, for tables of plans."""

from datetime import UTC, datetime
from typing import Any

from services.scaler.resources.observed import Use
from services.scaler.resources.usage import ServiceUsage, Summary
from services.scaler.situation import Sizes
from shared.contracts.scaling_rules import Resizing, ServiceRules
from tests.unit.scaler_cases import relaycore

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
RESIZING = Resizing.model_validate(
    {"cpu": {"min": 0.25, "max": 4}, "memory": {"min": "256 MB", "max": "4 GB"}, "step": 0.9}
)
SIZES = Sizes(cpu_limit=1.5, cpu_reserved=0.25, memory_limit=2048.0, memory_reserved=512.0)


def spread(p95: float, most: float | None = None, p90: float | None = None, samples: int = 5_000) -> Summary:
    peak = p95 if most is None else most
    return Summary(p95 * 0.6, p95 * 0.9 if p90 is None else p90, p95, peak, NOON, p95, samples)


METRICS = {
    "cpu_cores": "cpu_cores", "cpu_throttled": "cpu_throttled", "memory_mb": "memory_usage",
    "request_rate": "request_rate",
}  # fmt: skip


def use(**values: Any) -> Use:
    """RelayCore as deployed over two days, three replicas, unless said otherwise."""
    replica = {METRICS[name]: values.pop(name) for name in METRICS.keys() & values.keys()}
    usage = ServiceUsage("relaycore", "relaycore", 3.0, replica, {}, values.pop("sizes", SIZES))
    return Use(**{"of": usage, "span_s": 2 * 86_400.0, **values})


def rules(resizing: Resizing | None = RESIZING, **values: Any) -> ServiceRules:
    return relaycore(resizing=None if resizing is None else resizing.model_dump(), **values)
