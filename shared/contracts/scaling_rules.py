"""The scaling rules as people write them in ``config/scaling.yaml``.

Owns: which metrics a rule may name, their units and how they answer to replicas, and every refusal that can be told
from the document alone. What follows from the rules is the scaler's policy.
"""

from enum import StrEnum
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator, model_validator

from shared.contracts.base import Document, Name, SystemId, refuse_dots
from shared.contracts.prices import Prices
from shared.contracts.scaling_budget import Budget, ReplicaSize
from shared.contracts.scaling_targets import LocalTarget, ScalingTarget, WorkersTarget
from shared.contracts.scaling_tuning import RateLimit, Span, Tuning
from shared.contracts.units import Duration, TimeLimit, parse_quantity

LONGEST_STABLE_S = 300.0
LONGEST_START_UP_S = 300.0
"""What sizing looks back on and ahead to must fit well into the quarter of an hour it remembers."""


class Shape(StrEnum):
    """How a metric answers when replicas are added.

    ``load`` falls in proportion (CPU, requests/s per replica). ``latency`` and ``queue`` do not: near saturation they
    grow without bound, so their ratio to the limit says that more is needed, hardly how much.
    """

    LOAD = "load"
    QUEUE = "queue"
    LATENCY = "latency"


class Metric(NamedTuple):
    """``per_replica``: read per instance and averaged over the ready ones."""

    unit: str
    shape: Shape
    per_replica: bool


RULE_METRICS: dict[str, Metric] = {
    "cpu_usage": Metric("ratio", Shape.LOAD, True),
    "memory_ratio": Metric("ratio", Shape.LOAD, True),
    "gpu_usage": Metric("ratio", Shape.LOAD, True),
    "request_rate": Metric("requests/s", Shape.LOAD, True),
    "requests_in_flight": Metric("requests", Shape.LOAD, True),
    "queue_length": Metric("requests", Shape.QUEUE, True),
    "response_time": Metric("ms", Shape.LATENCY, False),
    "routing_latency": Metric("ms", Shape.LATENCY, True),
    "generator_at_fault": Metric("ratio", Shape.QUEUE, True),
}

BREACH_METRICS: dict[str, Shape] = {
    "api_response_time": Shape.LATENCY,
    "workflow_execution_time": Shape.LATENCY,
    "routing_latency": Shape.LATENCY,
    "inference_latency": Shape.LATENCY,
    "cpu_usage": Shape.LOAD,
    "gpu_usage": Shape.LOAD,
}
"""Benchmarks whose breach more replicas can mend. Not errors, not memory, nor what only offered load can raise."""

_NO_DRIVERS = {
    "error_rate": "more replicas do not mend errors",
    "memory_usage": "more replicas free no memory of the others",
    "throughput": "it is judged by the load offered and never scales anything",
    "ai_request_throughput": "it is judged by the load offered and never scales anything",
    "concurrent_inferences": "it is judged by the load offered and never scales anything",
    "cost_optimization_time": "it is the work of one request and does not wait in line",
    "model_load_time": "it is paid once per replica, so more replicas pay it more often",
}


def _threshold(value: object, metric: str | None) -> float:
    """A threshold in the metric's own unit from ``0.8``, ``"80%"``, ``"300 ms"``, ``"150/s"``."""
    if metric is None:
        raise ValueError("has no meaning without a valid metric")
    unit = RULE_METRICS[metric].unit
    threshold = parse_quantity(value, unit, metric)
    if threshold <= 0:
        raise ValueError(f"{value!r} must be above 0")
    if unit == "ratio" and threshold > 1:
        raise ValueError(f"{value!r} is more than all of it; {metric} goes up to 1, write e.g. 0.8 or 80%")
    return threshold


class _Threshold(Document):
    metric: str
    per_replica: bool | None = None

    @field_validator("metric")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in RULE_METRICS:
            raise ValueError(f"unknown metric {value!r}; known are {', '.join(RULE_METRICS)}")
        return value

    @model_validator(mode="after")
    def _per_replica_as_measured(self) -> "_Threshold":
        if self.per_replica is not None and self.per_replica is not RULE_METRICS[self.metric].per_replica:
            measured = "per ready replica" if RULE_METRICS[self.metric].per_replica else "for the whole system"
            raise ValueError(f"per_replica cannot be {self.per_replica}: {self.metric} is measured {measured}")
        return self


class UpRule(_Threshold):
    """Scale up when the metric is above; any rule suffices."""

    above: float

    @field_validator("above", mode="before")
    @classmethod
    def _in_unit(cls, value: object, info: ValidationInfo) -> float:
        return _threshold(value, info.data.get("metric"))


class DownCondition(_Threshold):
    """One of the conditions that must all hold."""

    below: float

    @field_validator("below", mode="before")
    @classmethod
    def _in_unit(cls, value: object, info: ValidationInfo) -> float:
        return _threshold(value, info.data.get("metric"))


class DownRule(Document):
    """Scale down when all conditions have held without a gap for ``idle_for``."""

    idle_for: Duration
    all_of: tuple[DownCondition, ...] = Field(alias="all", min_length=1)


class BreachDriver(Document):
    """A benchmark whose open breach scales the service up.

    ``system`` is the service's own unless given. ``only_when_slowest``: only where the breach names this service as the
    hop that spent the time, for metrics that span several systems.
    """

    metric: str
    system: SystemId | None = None
    only_when_slowest: bool = False

    @field_validator("metric")
    @classmethod
    def _can_help(cls, value: str) -> str:
        if value in _NO_DRIVERS:
            raise ValueError(f"{value!r} cannot drive scaling: {_NO_DRIVERS[value]}")
        if value not in BREACH_METRICS:
            raise ValueError(f"unknown benchmark {value!r}; those that can drive are {', '.join(BREACH_METRICS)}")
        return value


class Panic(Document):
    """Load that has come suddenly: ``window`` sees ``factor`` times the requests/s of ``stable``.

    While it lasts, and for ``stable`` after, ``window`` alone is believed and nothing is removed.
    """

    stable: Duration = 60.0
    window: Duration = 6.0
    factor: float = Field(default=2.0, gt=1)

    @model_validator(mode="after")
    def _nested(self) -> "Panic":
        if not 1 <= self.window < self.stable <= LONGEST_STABLE_S:
            raise ValueError(
                f"window {self.window:g} s must be at least 1 s and shorter than stable {self.stable:g} s, "
                f"which may be at most {LONGEST_STABLE_S:g} s"
            )
        return self


class Sizing(Document):
    """Replicas from arrival rate and service time, where one replica works on ``concurrency`` requests at once.

    ``utilization``: share of its servers that the load may keep busy. ``start_up``: from the order of a replica until
    it takes requests. ``drain``: within which a backlog is to be gone. ``counts``: whether ``request_rate`` counts
    requests answered or arrived. ``rate``: how far one sizing may go, looser than for ratios, as it measures what is
    needed.
    """

    concurrency: int = Field(ge=1)
    utilization: float = Field(default=0.7, gt=0, lt=1)
    start_up: Duration = 30.0
    drain: Duration = 15.0
    counts: Literal["answered", "arrived"] = "answered"
    panic: Panic = Panic()
    rate: RateLimit = RateLimit(percent=900.0)

    @model_validator(mode="after")
    def _possible(self) -> "Sizing":
        if self.drain < 1:
            raise ValueError(f"drain {self.drain:g} s is too short; 1 s at least")
        if self.start_up > LONGEST_START_UP_S:
            raise ValueError(
                f"start_up {self.start_up:g} s is longer than is forecast; {LONGEST_START_UP_S:g} s at most"
            )
        return self


class CoreRange(Document):
    """Least and most cores of one replica."""

    min: float = Field(gt=0)
    max: float = Field(gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> "CoreRange":
        if self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class MemoryRange(CoreRange):
    """Least and most memory of one replica, in MB of 1,048,576 bytes; written with its unit, e.g. ``512 MB``."""

    @field_validator("min", "max", mode="before")
    @classmethod
    def _in_mb(cls, value: object) -> float:
        return parse_quantity(value, "MB", "memory")


class Resizing(Document):
    """How far replicas may be given other sizes, and how that is watched. ``dry_run``: record it, change nothing.

    ``step``: largest change at once, as a share of what is there. After ``settle`` the ``window`` is compared with the
    one before; replicas not ready within ``ready_within`` make it fail. Both lead back to the sizes before.
    """

    enabled: bool = True
    dry_run: bool = False
    cpu: CoreRange
    memory: MemoryRange
    step: float = Field(default=0.5, gt=0, lt=1)
    settle: Duration = 5.0
    window: Span = 30.0
    ready_within: TimeLimit = 300.0


class ServiceRules(Document):
    """One service: limits, which are never optional, and what moves it between them.

    ``target``: where its replicas run, else the document's. ``dry_run``: decide and record, move nothing. ``size``:
    what one replica counts for in the budget, where the target does not tell. ``sizing``: what is known of a replica,
    so that the load itself tells how many are needed; without ``down`` it alone removes. ``resizing``: limits of one
    replica's size; without it no size is ever changed.
    """

    system: SystemId
    target: ScalingTarget | None = None
    dry_run: bool = False
    size: ReplicaSize | None = None
    min: int = Field(ge=1)
    max: int = Field(ge=1, le=1000)
    up: tuple[UpRule, ...] = ()
    down: DownRule | None = None
    sizing: Sizing | None = None
    breaches: tuple[BreachDriver, ...] = ()
    resizing: Resizing | None = None
    tuning: Tuning = Tuning()

    @model_validator(mode="after")
    def _consistent(self) -> "ServiceRules":
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        for rules, name in ((self.up, "up"), (self.down.all_of if self.down else (), "down")):
            metrics = [rule.metric for rule in rules]
            for metric in metrics:
                if metrics.count(metric) > 1:
                    raise ValueError(f"{name} names {metric} twice")
        above = {rule.metric: rule.above for rule in self.up}
        for condition in self.down.all_of if self.down else ():
            limit = above.get(condition.metric)
            if limit is not None and condition.below >= limit:
                raise ValueError(
                    f"{condition.metric}: down below {condition.below:g} overlaps up above {limit:g}, so both could "
                    "hold; below must be less than above"
                )
        return self


class ScalingRules(Document):
    """The whole document. ``tuning`` and ``target`` at the top hold for each service that has none of its own;
    ``budget`` bounds them all together.

    Without any the platform of ``TIDEGATE_PLATFORM_URL`` is the target; without that, samples are counted and nothing
    moves. ``prices``: by which efficiency tells cost; without, it tells CPU-seconds and MB-seconds.
    """

    tuning: Tuning = Tuning()
    target: ScalingTarget | None = None
    budget: Budget | None = None
    prices: Prices | None = None
    services: dict[Name, ServiceRules] = Field(min_length=1)

    @field_validator("services")
    @classmethod
    def _named_for_the_bus(cls, value: dict[str, ServiceRules]) -> dict[str, ServiceRules]:
        return {refuse_dots(name, "-"): rules for name, rules in value.items()}

    @model_validator(mode="before")
    @classmethod
    def _inherit_tuning(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("tuning"), dict):
            return data
        services = data.get("services")
        if not isinstance(services, dict):
            return data
        merged = {
            name: {**rules, "tuning": _overlay(data["tuning"], rules.get("tuning"))}
            if isinstance(rules, dict)
            else rules
            for name, rules in services.items()
        }
        return {**data, "services": merged}

    @model_validator(mode="after")
    def _patient(self) -> "ScalingRules":
        # Not in ServiceRules: a record made on such rules is still to be understood.
        for service, its in self.services.items():
            patience_s = its.tuning.effectiveness.ready_within
            if its.sizing is not None and its.sizing.start_up >= patience_s:
                raise ValueError(
                    f"services.{service}.sizing.start_up {its.sizing.start_up:g} s is not shorter than "
                    f"tuning.effectiveness.ready_within {patience_s:g} s, so each scale-up would count as failed; "
                    "raise ready_within"
                )
        return self

    @model_validator(mode="after")
    def _within_budget(self) -> "ScalingRules":
        if self.budget is None:
            return self
        if refusal := self.budget.refusal({name: (its.min, its.size) for name, its in self.services.items()}):
            raise ValueError(f"{refusal}; raise it, or lower a min")
        for service, its in self.services.items():
            tells = not isinstance(its.target or self.target or LocalTarget(kind="local"), LocalTarget | WorkersTarget)
            for name in ("cpu_cores", "memory"):
                if not tells and name in self.budget.bounds and getattr(its.size, name, None) is None:
                    raise ValueError(
                        f"services.{service}.size.{name} is missing: the budget bounds {name} and its target does not "
                        "tell what one replica takes; give it"
                    )
        return self


def _overlay(common: dict[str, Any], own: Any) -> Any:
    if own is None:
        return common
    if not isinstance(own, dict):
        return own
    return {
        **common,
        **{
            key: _overlay(common[key], value) if isinstance(common.get(key), dict) else value
            for key, value in own.items()
        },
    }
