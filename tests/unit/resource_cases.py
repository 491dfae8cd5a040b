"""Short ways to write what a service used, for tables of plans."""

from typing import Any

from services.scaler.resources.observed import Spread, Use
from services.scaler.situation import Sizes
from shared.contracts.scaling_rules import Resizing, ServiceRules
from tests.unit.scaler_cases import relaycore

RESIZING = Resizing.model_validate(
    {"cpu": {"min": 0.25, "max": 4}, "memory": {"min": "256 MB", "max": "4 GB"}, "step": 0.9}
)
SIZES = Sizes(cpu_limit=1.5, cpu_reserved=0.25, memory_limit=2048.0, memory_reserved=512.0)


def spread(p95: float, most: float | None = None, p90: float | None = None, samples: int = 5_000) -> Spread:
    return Spread(samples, p95 * 0.6, p95 * 0.9 if p90 is None else p90, p95, p95 if most is None else most)


def use(**values: Any) -> Use:
    """RelayCore as deployed over two days, three replicas, unless said otherwise."""
    fields: dict[str, Any] = {"service": "relaycore", "replicas": 3.0, "span_s": 2 * 86_400.0, "sizes": SIZES}
    return Use(**{**fields, **values})


def rules(resizing: Resizing | None = RESIZING, **values: Any) -> ServiceRules:
    return relaycore(resizing=None if resizing is None else resizing.model_dump(), **values)
