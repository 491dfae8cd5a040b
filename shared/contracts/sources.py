"""What a benchmark can be measured by: its sources with their units, their statistics and their direction."""

import math
from enum import StrEnum
from typing import Literal

Statistic = Literal["mean", "rate", "p50", "p90", "p95", "p99", "p999"]

KEPT_S = 150
"""So far behind event time the seconds of requests, readings and spans are held; what is older is the store's alone."""
LATE_S = 30
"""What comes so much later than the rest is still in every window."""
LONGEST_WINDOW_S = KEPT_S - LATE_S

QUANTILES: dict[str, float] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
CONFIRM_P = 0.05
"""A pass is confirmed when a system just at its limit would look this good in fewer than one of twenty windows."""


def samples_to_confirm(statistic: str) -> int:
    """Least samples that can confirm a percentile at 95 % (all of them below the limit); 2 for a mean.

    ``q**n <= 0.05``: 59 for p95, 299 for p99, 2,995 for p99.9.
    """
    q = QUANTILES.get(statistic)
    return 2 if q is None else math.ceil(math.log(CONFIRM_P) / math.log(q))


def samples_to_confirm_share(share: float) -> int:
    """Least samples that can confirm that fewer than a share fail at 95 % (none of them fails): 299 for 1 %."""
    return math.ceil(math.log(CONFIRM_P) / math.log1p(-share))


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
