"""What a benchmark can be measured by: its sources with their units, their statistics and their direction."""

from enum import StrEnum
from typing import Literal

Statistic = Literal["mean", "rate", "p50", "p90", "p95", "p99", "p999"]


class Source(StrEnum):
    """Where the samples come from."""

    RESPONSE_TIME = "response_time"
    WORKFLOW_TIME = "workflow_time"
    THROUGHPUT = "throughput"
    ERROR_RATE = "error_rate"
    RESOURCE = "resource"
    SPAN = "span"

    @property
    def of_requests(self) -> bool:
        """Measured by the requests of a run itself, so of one run alone."""
        return self not in (Source.RESOURCE, Source.SPAN)


_UNIT = {
    Source.RESPONSE_TIME: "ms",
    Source.WORKFLOW_TIME: "ms",
    Source.THROUGHPUT: "requests/s",
    Source.ERROR_RATE: "ratio",
    Source.SPAN: "ms",
}
RESOURCE_METRICS = {
    "cpu_usage": "ratio",
    "memory_usage": "MB",
    "memory_ratio": "ratio",
    "gpu_usage": "ratio",
    "queue_length": "requests",
    "requests_in_flight": "requests in flight",
    "request_rate": "requests/s",
    "routing_latency": "ms",
    "cost_optimization_time": "ms",
    "model_load_time": "ms",
    "concurrent_inferences": "requests in flight",
}
_HIGHER = frozenset({"concurrent_inferences"})
_TIMES: tuple[Statistic, ...] = ("p95", "p50", "p90", "p99", "p999", "mean")
STATISTICS: dict[Source, tuple[Statistic, ...]] = {
    Source.RESPONSE_TIME: _TIMES,
    Source.WORKFLOW_TIME: _TIMES,
    Source.THROUGHPUT: ("rate",),
    Source.ERROR_RATE: ("rate",),
    Source.RESOURCE: ("mean",),
    Source.SPAN: _TIMES,
}
MIN_SAMPLES = {
    Source.RESPONSE_TIME: 200,
    Source.WORKFLOW_TIME: 100,
    Source.THROUGHPUT: 1,
    Source.ERROR_RATE: 200,
    Source.RESOURCE: 5,
    Source.SPAN: 100,
}
BUDGETED = (Source.RESPONSE_TIME, Source.WORKFLOW_TIME, Source.ERROR_RATE)
"""Those with an error budget: each request is good or bad."""


def unit_of(source: Source, resource: object) -> str | None:
    """The one unit of a source, of a resource metric for those; None where there is no such metric."""
    return RESOURCE_METRICS.get(str(resource)) if source is Source.RESOURCE else _UNIT[source]


def better_of(source: Source, resource: object) -> Literal["lower", "higher"]:
    higher = source is Source.THROUGHPUT or (source is Source.RESOURCE and resource in _HIGHER)
    return "higher" if higher else "lower"
