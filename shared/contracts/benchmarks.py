"""The benchmarks that hold in one environment: what is measured, from what, against which limits, and when.

A document that could never give an honest verdict is refused here, in one line: limits on the wrong side of each
other, a unit that does not measure the source, too few samples to ever confirm a percentile. How the file inherits and
what an environment changes is ``benchmarks_file.py``.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from shared.contracts.base import Document, Name, SystemId, refuse_dots
from shared.contracts.breach import DriftMetric
from shared.contracts.burn import BURN_RATE, STANDARD, BurnRate, refuse_never_firing
from shared.contracts.judgeable import refuse_unjudgeable, refuse_unreachable
from shared.contracts.schedule import Schedule
from shared.contracts.sources import BUDGETED, MIN_SAMPLES, RESOURCE_METRICS, STATISTICS, better_of, unit_of
from shared.contracts.sources import CONFIRM_P as CONFIRM_P
from shared.contracts.sources import QUANTILES as QUANTILES
from shared.contracts.sources import Source as Source
from shared.contracts.sources import Statistic as Statistic
from shared.contracts.sources import samples_to_confirm as samples_to_confirm
from shared.contracts.units import Duration, parse_quantity
from shared.errors import WrongFieldError, closest


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[Name, ...], BeforeValidator(_one_or_more)]
"""One name, or several."""


class Severity(Document):
    """A label that travels on a breach, for those who forward it; one for both levels may be written as a word."""

    target: Name = "ticket"
    critical: Name = "page"

    @model_validator(mode="before")
    @classmethod
    def _same_for_both(cls, data: object) -> object:
        return {"target": data, "critical": data} if isinstance(data, str) else data

    def at(self, level: str) -> str:
        return self.critical if level == "critical" else self.target


class Benchmark(Document):
    """One metric of one system. ``target`` is what should be reached, ``critical`` where it hurts; both in ``unit``.

    ``window`` slides over event time and reaches back as far as ``max_window`` where it holds fewer than
    ``min_samples``. ``significance``: how improbable an observation must be, if the limit were kept, to call the
    limit broken; left out, it follows from ``Benchmarks.false_breaches_per_day``. ``required``: a run that touches
    the system and cannot measure this ends without a verdict.
    ``scenarios`` and ``actions`` restrict request metrics; ``instances`` says how a resource's instances become one
    value; ``span`` names what a system's traces call the work that is measured, ``resource`` then the readings of the
    same for where no spans come. ``objective``: the share of requests
    that should be good (answered, for times within ``target``), from which ``burn_rates`` follow.
    """

    metric: Name
    target: float = Field(ge=0)
    critical: float = Field(ge=0)
    unit: str
    better: Literal["lower", "higher"]
    source: Source
    statistic: Statistic = "p95"
    scenarios: Names = ()
    actions: Names = ()
    resource: str = ""
    span: str = ""
    instances: Literal["mean", "sum", "max"] = "mean"
    window: Duration = 10.0
    max_window: Duration = 60.0
    min_samples: int = Field(default=200, ge=1)
    significance: float | None = Field(default=None, ge=1e-12, le=0.05)
    severity: Severity = Severity()
    schedule: Schedule = Schedule()
    objective: float | None = None
    burn_rates: tuple[BurnRate, ...] = ()
    required: bool = False
    weight: float = Field(default=1.0, gt=0)

    @field_validator("metric")
    @classmethod
    def _named_for_the_bus(cls, value: str) -> str:
        if value in list(DriftMetric):
            raise ValueError(f"{value!r} is what the drift of a canary is called; give it another name")
        return refuse_dots(value, "_")

    @model_validator(mode="before")
    @classmethod
    def _source_defaults(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        if (named := data.get("source")) not in list(Source):
            said = (
                f"unknown source {named!r}{closest(str(named), map(str, Source))}"
                if "source" in data
                else "needs a source"
            )
            raise WrongFieldError(f"{data.get('metric')}: {said}; known: {', '.join(Source)}", "source")
        source = Source(named)
        filled = {"statistic": STATISTICS[source][0], "min_samples": MIN_SAMPLES[source], **data}
        if source is Source.RESOURCE:
            filled.setdefault("resource", data.get("metric", ""))
        resource, metric = filled.get("resource", ""), data.get("metric", "benchmark")
        unit = unit_of(source, resource)
        if unit is None:
            raise WrongFieldError(
                f"{metric}: unknown resource metric {resource!r}{closest(str(resource), RESOURCE_METRICS)}; "
                f"known: {', '.join(sorted(RESOURCE_METRICS))}",
                "resource" if "resource" in data else "metric",
            )
        filled = {"unit": unit, "better": better_of(source, resource), **filled}
        if filled["unit"] != unit:
            raise WrongFieldError(
                f"{metric}: unit {filled['unit']!r} does not measure {resource or source}; use {unit!r}", "unit"
            )
        if filled.get("objective") is not None and source in BUDGETED:
            filled.setdefault("burn_rates", STANDARD)
        for name, figure in (("target", unit), ("critical", unit), ("objective", "ratio")):
            if isinstance(filled.get(name), str):
                try:
                    filled[name] = parse_quantity(filled[name], figure, name)
                except ValueError as error:
                    raise WrongFieldError(f"{metric}: {error}", name) from error
        return filled

    @model_validator(mode="after")
    def _limits_ordered(self) -> "Benchmark":
        wrong = self.critical <= self.target if self.better == "lower" else self.critical >= self.target
        if wrong:
            side = "above" if self.better == "lower" else "below"
            raise WrongFieldError(
                f"{self.metric}: critical {self.critical:g} must lie {side} target {self.target:g}, "
                f"since {self.better} is better",
                "critical",
            )
        return self

    @model_validator(mode="after")
    def _source_fits(self) -> "Benchmark":
        unit = unit_of(self.source, self.resource)
        if self.resource and self.source.of_requests:
            raise WrongFieldError(
                f"{self.metric}: resource belongs to source resource or span, not {self.source}", "resource"
            )
        if self.source is Source.SPAN and self.resource and RESOURCE_METRICS.get(self.resource) != unit:
            raise WrongFieldError(
                f"{self.metric}: resource {self.resource!r} does not tell times in {unit}; leave it out", "resource"
            )
        if bool(self.span) != (self.source is Source.SPAN):
            says = (
                "needs span, the name of the spans"
                if not self.span
                else f"span belongs to source span, not {self.source}"
            )
            raise WrongFieldError(f"{self.metric}: {says}", "span")
        if self.better != better_of(self.source, self.resource):
            raise WrongFieldError(f"{self.metric}: better must be {better_of(self.source, self.resource)}", "better")
        if self.source is Source.ERROR_RATE and not 0 < self.target < self.critical < 1:
            raise WrongFieldError(
                f"{self.metric}: an error rate's target and critical lie between 0 and 1, ends excluded", "critical"
            )
        return self

    @model_validator(mode="after")
    def _choice_fits(self) -> "Benchmark":
        if self.actions and (not self.source.of_requests or self.source is Source.WORKFLOW_TIME):
            raise WrongFieldError(f"{self.metric}: source {self.source} has no actions to choose from", "actions")
        if self.scenarios and not self.source.of_requests:
            raise WrongFieldError(f"{self.metric}: source {self.source} has no scenarios to choose from", "scenarios")
        return self

    @model_validator(mode="after")
    def _confirmable(self) -> "Benchmark":
        if self.statistic not in STATISTICS[self.source]:
            raise WrongFieldError(
                f"{self.metric}: statistic {self.statistic!r} cannot be taken of source {self.source}; "
                f"use {', '.join(STATISTICS[self.source])}",
                "statistic",
            )
        least = samples_to_confirm(self.statistic) if self.statistic != "rate" else 1
        if self.min_samples < least:
            raise WrongFieldError(
                f"{self.metric}: min_samples {self.min_samples} can never confirm {self.statistic} at 95 %; "
                f"use at least {least}",
                "min_samples" if "min_samples" in self.model_fields_set else "statistic",
            )
        refuse_unjudgeable(self)
        return self

    @model_validator(mode="after")
    def _budget_fits(self) -> "Benchmark":
        if self.objective is None:
            if self.burn_rates:
                raise WrongFieldError(
                    f"{self.metric}: burn_rates need an objective, e.g. objective: 99.5 %", "burn_rates"
                )
            return self
        if self.source not in BUDGETED:
            raise WrongFieldError(
                f"{self.metric}: an objective is of {', '.join(BUDGETED)}, not of {self.source}", "objective"
            )
        if not 0 < self.objective < 1:
            raise WrongFieldError(
                f"{self.metric}: objective {self.objective:g} must lie between 0 and 1, e.g. 99.5 % or 0.995",
                "objective",
            )
        refuse_never_firing(self.objective, self.burn_rates, self.metric)
        return self

    @property
    def limits(self) -> tuple[float, float]:
        return self.target, self.critical

    @property
    def demand_limited(self) -> bool:
        """Higher is better: says nothing while less than the target is asked for, and never scales anything."""
        return self.better == "higher"

    @cached_property
    def in_readings(self) -> "Benchmark | None":
        """The same by the means of a resource metric, for where there are no spans; None where none is named."""
        if self.source is not Source.SPAN or not self.resource:
            return None
        changes = {"source": Source.RESOURCE, "statistic": "mean", "min_samples": MIN_SAMPLES[Source.RESOURCE]}
        return self.model_copy(update=changes)

    def chooses(self, scenario: str, action: str) -> bool:
        """Whether what a scenario does in an action counts; of a workflow the action is its own."""
        chosen = not self.scenarios or scenario in self.scenarios
        return chosen and (not self.actions or action in self.actions)


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
        for place, name in enumerate(names):
            if name in names[:place]:
                raise WrongFieldError(
                    f"metric {name!r} stands there {names.count(name)} times; give each a name of its own",
                    *("benchmarks", place, "metric"),
                )
            base = next((one for one in self.benchmarks if one.burn_rates and f"{one.metric}{BURN_RATE}" == name), None)
            if base is not None:
                raise WrongFieldError(
                    f"metric {name!r} is what the burn rate of {base.metric} is called, which has an objective; "
                    "give it another name",
                    *("benchmarks", place, "metric"),
                )
        return self

    @model_validator(mode="after")
    def _reachable(self) -> "SystemBenchmarks":
        for place, one in enumerate(self.benchmarks):
            refuse_unreachable(one, self.asked_per_s, "benchmarks", place)
        return self

    @property
    def asked_per_s(self) -> float:
        """Requests a second that the system's own throughput asks for, over all scenarios and actions; 0 for none."""
        asked = [
            one.target
            for one in self.benchmarks
            if one.source is Source.THROUGHPUT and not (one.scenarios or one.actions)
        ]
        return max(asked, default=0.0)


class Benchmarks(Document):
    """All systems, by their id.

    ``false_breaches_per_day``: how many breaches a day of one run one accepts, over all benchmarks together, of a
    system that just keeps every target. The significance of each benchmark is derived from it.
    """

    false_breaches_per_day: float = Field(default=1.0, ge=1e-6, le=100)
    systems: dict[SystemId, SystemBenchmarks] = Field(min_length=1)

    @model_validator(mode="after")
    def _calls_known(self) -> "Benchmarks":
        for system, owner in self.systems.items():
            for place, called in enumerate(owner.calls):
                if called not in self.systems:
                    raise WrongFieldError(
                        f"{system} calls {called!r}, which is no system here{closest(called, self.systems)}: "
                        f"{', '.join(self.systems)}",
                        *("systems", system, "calls", place),
                    )
        return self

    @property
    def metrics(self) -> frozenset[str]:
        """Every metric that a breach can be of, burn rates and drifts among them."""
        every = [one for owner in self.systems.values() for one in owner.benchmarks]
        burning = {f"{one.metric}{BURN_RATE}" for one in every if one.burn_rates}
        return frozenset({one.metric for one in every} | burning | {drift.value for drift in DriftMetric})

    @property
    def named_spans(self) -> dict[tuple[str, str], str]:
        """By system and name of the spans that benchmarks are measured by: the service they come from."""
        return {
            (system, one.span): owner.service
            for system, owner in self.systems.items()
            for one in owner.benchmarks
            if one.source is Source.SPAN
        }

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
