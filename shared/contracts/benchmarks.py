"""The benchmarks as people write them in ``config/benchmarks.yaml``: what is measured, from what, against which limits.

A document that could never give an honest verdict is refused here, in one line: limits on the wrong side of each
other, a unit that does not measure the source, too few samples to ever confirm a percentile.
"""

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from shared.contracts.base import Document, Name, SystemId
from shared.contracts.units import Duration

Statistic = Literal["mean", "rate", "p50", "p90", "p95", "p99", "p999"]
QUANTILES: dict[str, float] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
CONFIRM_P = 0.05
"""A pass is confirmed when a system just at its limit would look this good in fewer than one of twenty windows."""


class Source(StrEnum):
    """Where the samples come from."""

    RESPONSE_TIME = "response_time"
    WORKFLOW_TIME = "workflow_time"
    THROUGHPUT = "throughput"
    ERROR_RATE = "error_rate"
    RESOURCE = "resource"


_UNIT = {
    Source.RESPONSE_TIME: "ms",
    Source.WORKFLOW_TIME: "ms",
    Source.THROUGHPUT: "requests/s",
    Source.ERROR_RATE: "ratio",
}
_RESOURCE_UNIT = {
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
_STATISTICS: dict[Source, tuple[Statistic, ...]] = {
    Source.RESPONSE_TIME: ("p95", "p50", "p90", "p99", "p999", "mean"),
    Source.WORKFLOW_TIME: ("p95", "p50", "p90", "p99", "p999", "mean"),
    Source.THROUGHPUT: ("rate",),
    Source.ERROR_RATE: ("rate",),
    Source.RESOURCE: ("mean",),
}
_MIN_SAMPLES = {
    Source.RESPONSE_TIME: 200,
    Source.WORKFLOW_TIME: 100,
    Source.THROUGHPUT: 1,
    Source.ERROR_RATE: 200,
    Source.RESOURCE: 5,
}


def samples_to_confirm(statistic: str) -> int:
    """Least samples that can confirm a percentile at 95 % (all of them below the limit); 2 for a mean.

    ``q**n <= 0.05``: 59 for p95, 299 for p99, 2,995 for p99.9.
    """
    q = QUANTILES.get(statistic)
    return 2 if q is None else math.ceil(math.log(CONFIRM_P) / math.log(q))


class Benchmark(Document):
    """One metric of one system. ``target`` is what should be reached, ``critical`` where it hurts; both in ``unit``.

    ``window`` slides over event time and reaches back as far as ``max_window`` where it holds fewer than
    ``min_samples``. ``significance``: how improbable an observation must be, if the limit were kept, to call the
    limit broken; left out, it follows from ``Benchmarks.false_breaches_per_day``. ``required``: a run that touches
    the system and cannot measure this ends without a verdict. ``actions`` restricts request metrics to actions;
    ``instances`` says how a resource's instances become one value.
    """

    metric: Name
    target: float = Field(ge=0)
    critical: float = Field(ge=0)
    unit: str
    better: Literal["lower", "higher"]
    source: Source
    statistic: Statistic = "p95"
    actions: tuple[Name, ...] = ()
    resource: str = ""
    instances: Literal["mean", "sum", "max"] = "mean"
    window: Duration = 10.0
    max_window: Duration = 60.0
    min_samples: int = Field(default=200, ge=1)
    significance: float | None = Field(default=None, gt=0, le=0.05)
    required: bool = False
    weight: float = Field(default=1.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _source_defaults(cls, data: object) -> object:
        if not isinstance(data, dict) or data.get("source") not in set(Source):
            return data
        source = Source(data["source"])
        filled = {"statistic": _STATISTICS[source][0], "min_samples": _MIN_SAMPLES[source], **data}
        if source is Source.RESOURCE:
            filled.setdefault("resource", data.get("metric", ""))
        return filled

    @model_validator(mode="after")
    def _limits_ordered(self) -> "Benchmark":
        wrong = self.critical <= self.target if self.better == "lower" else self.critical >= self.target
        if wrong:
            side = "above" if self.better == "lower" else "below"
            raise ValueError(
                f"{self.metric}: critical {self.critical:g} must lie {side} target {self.target:g}, "
                f"since {self.better} is better"
            )
        return self

    @model_validator(mode="after")
    def _source_fits(self) -> "Benchmark":
        units = _RESOURCE_UNIT.get(self.resource) if self.source is Source.RESOURCE else _UNIT[self.source]
        if units is None:
            raise ValueError(
                f"{self.metric}: unknown resource metric {self.resource!r}; known: {', '.join(sorted(_RESOURCE_UNIT))}"
            )
        if self.source is not Source.RESOURCE and self.resource:
            raise ValueError(f"{self.metric}: resource belongs to source resource, not {self.source}")
        if self.unit != units:
            raise ValueError(
                f"{self.metric}: unit {self.unit!r} does not measure {self.resource or self.source}; use {units!r}"
            )
        higher = self.source is Source.THROUGHPUT or self.resource in _HIGHER
        if (self.better == "higher") != higher:
            raise ValueError(f"{self.metric}: better must be {'higher' if higher else 'lower'}")
        if self.actions and self.source in (Source.RESOURCE, Source.WORKFLOW_TIME):
            raise ValueError(f"{self.metric}: source {self.source} has no actions to choose from")
        if self.source is Source.ERROR_RATE and not 0 < self.target < self.critical < 1:
            raise ValueError(f"{self.metric}: an error rate's target and critical lie between 0 and 1, ends excluded")
        return self

    @model_validator(mode="after")
    def _confirmable(self) -> "Benchmark":
        if self.statistic not in _STATISTICS[self.source]:
            raise ValueError(
                f"{self.metric}: statistic {self.statistic!r} cannot be taken of source {self.source}; "
                f"use {', '.join(_STATISTICS[self.source])}"
            )
        least = samples_to_confirm(self.statistic) if self.statistic != "rate" else 1
        if self.min_samples < least:
            raise ValueError(
                f"{self.metric}: min_samples {self.min_samples} can never confirm {self.statistic} at 95 %; "
                f"use at least {least}"
            )
        if self.window < 1:
            raise ValueError(f"{self.metric}: window of {self.window:g} s is shorter than the 1 s of a cell")
        if self.max_window < self.window:
            raise ValueError(f"{self.metric}: max_window of {self.max_window:g} s is below window {self.window:g} s")
        return self

    @property
    def limits(self) -> tuple[float, float]:
        return self.target, self.critical

    @property
    def demand_limited(self) -> bool:
        """Higher is better: says nothing while less than the target is asked for, and never scales anything."""
        return self.better == "higher"


class SystemBenchmarks(Document):
    """The benchmarks of one system, and the name of the service that is scaled for it.

    ``calls``: systems to which it passes its work on, whose resources a run therefore loads without calling them.
    """

    service: Name
    name: str
    calls: tuple[SystemId, ...] = ()
    benchmarks: tuple[Benchmark, ...] = Field(min_length=1)
    weight: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _metrics_once(self) -> "SystemBenchmarks":
        names = [benchmark.metric for benchmark in self.benchmarks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"metric {name!r} stands there {names.count(name)} times")
        return self


class Benchmarks(Document):
    """The whole file: system id to its benchmarks.

    ``false_breaches_per_day``: how many breaches a day of one run one accepts, over all benchmarks together, of a
    system that just keeps every target. The significance of each benchmark is derived from it.
    """

    false_breaches_per_day: float = Field(default=1.0, gt=0, le=100)
    systems: dict[SystemId, SystemBenchmarks] = Field(min_length=1)

    @model_validator(mode="after")
    def _calls_known(self) -> "Benchmarks":
        for system, owner in self.systems.items():
            for called in owner.calls:
                if called not in self.systems:
                    raise ValueError(f"{system} calls {called!r}, which is no system here: {', '.join(self.systems)}")
        return self

    def reached(self, systems: Iterable[str]) -> frozenset[str]:
        """These systems and all that they call, directly or through others."""
        reached: set[str] = set()
        ahead = list(systems)
        while ahead:
            system = ahead.pop()
            if system not in reached:
                reached.add(system)
                ahead.extend(self.systems[system].calls if system in self.systems else ())
        return frozenset(reached)
