"""Everything a report is made from, gathered before it is made: what was asked, what the store holds, what was seen."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.validator.board import RunBoard, UsersAt
from services.validator.demand import Asked
from services.validator.generator_course import GeneratorAt
from services.validator.health import GeneratorHealth
from services.validator.hop_table import ScenarioHops
from services.validator.producer import Line
from shared.contracts.breach import Breach
from shared.contracts.run import RunDesired, RunState
from shared.contracts.timing import Kind
from shared.histogram import Histogram
from shared.store.figures import Connecting, Edges, InstanceReading, SeriesAfter, SeriesResult, Step
from shared.store.spans import SpanTimes

FAULT_SHARE = 0.05
"""Beyond this share of seconds with the generator at fault, what it measured says nothing of the target."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What only the stream tells: users and the generator's health over time, redelivered events."""

    users: tuple[UsersAt, ...] = ()
    health: Mapping[str, GeneratorHealth] = field(default_factory=dict)
    duplicates: Mapping[tuple[str, Line], int] = field(default_factory=dict)
    generator: tuple[GeneratorAt, ...] = ()

    @classmethod
    def of(cls, board: RunBoard) -> "Observed":
        return cls(
            tuple(board.users),
            {system: windows.whole_health() for system, windows in board.windows.items()},
            {
                (system, line): count
                for system, windows in board.windows.items()
                for line, count in windows.duplicates.items()
            },
            board.generator.points(),
        )


@dataclass(frozen=True, slots=True)
class Facts:
    """``after``: what ended after ramp-up, by series. Rows are as ``shared.store.results`` returns them."""

    desired: RunDesired
    state: RunState
    series: tuple[SeriesResult, ...] = ()
    after: Mapping[int, SeriesAfter] = field(default_factory=dict)
    edges: Mapping[int, Edges] = field(default_factory=dict)
    timeline: tuple[Step, ...] = ()
    resources: tuple[Mapping[str, Any], ...] = ()
    replicas: tuple[Mapping[str, Any], ...] = ()
    breaches: tuple[Breach, ...] = ()
    scaling: tuple[Mapping[str, Any], ...] = ()
    observed: Observed = field(default_factory=Observed)
    hops: tuple[ScenarioHops, ...] = ()
    spans: Mapping[tuple[str, str], SpanTimes] = field(default_factory=dict)
    instances: tuple[InstanceReading, ...] = ()
    connecting: tuple[Connecting, ...] = ()
    step_s: int = 1

    @property
    def span(self) -> "Span":
        return Span.of(self.desired, self.state)

    @property
    def missing_traces(self) -> tuple[str, ...]:
        """Traces that were to be broken down and are not whole in the store yet."""
        return tuple(trace_id for scenario in self.hops for trace_id in scenario.missing)

    def at_fault(self, system: str) -> bool:
        """True when the generator spoiled what this run measured of a system."""
        health = self.observed.health.get(system)
        return health is not None and health.seconds_at_fault > FAULT_SHARE * health.seconds

    def readings(self, system: str, metric: str, across: str) -> tuple[float, ...]:
        """One value a step of a resource, after ramp-up and before the end."""
        span = self.span
        return tuple(
            float(row[across])
            for row in self.resources
            if row["system"] == system
            and row["metric"] == metric
            and span.judged_from.timestamp() <= row["second"] < span.ended.timestamp()
        )

    def total_after(
        self, kind: Kind, *, system: str = "", scenarios: Iterable[str] = (), actions: Iterable[str] = ()
    ) -> "TotalAfter":
        """Sum over the series that match, after ramp-up; an empty filter lets everything through."""
        response, cancelled, sum_us, failed = Histogram(), Histogram(), 0, 0
        for _, part in self._parts(kind, system, set(scenarios), set(actions)):
            response.merge(part.response)
            cancelled.merge(part.cancelled)
            sum_us += part.sum_us
            failed += part.failed
        return TotalAfter(response, sum_us, failed, cancelled)

    def asked_after(
        self, *, system: str = "", scenarios: Iterable[str] = (), actions: Iterable[str] = ()
    ) -> Iterator[Asked]:
        """The requests of the series that match, from ramp-up to the end."""
        for series, part in self._parts(Kind.REQUEST, system, set(scenarios), set(actions)):
            edges = self.edges.get(series.series_id, Edges())
            count = sum(part.response.values()) - edges.after
            ended = count - part.refused - edges.late + edges.early
            yield Asked(series.scenario, ended, count + sum(part.cancelled.values()))

    def _parts(
        self, kind: Kind, system: str, scenarios: set[str], actions: set[str]
    ) -> Iterator[tuple[SeriesResult, SeriesAfter]]:
        for series in self.series:
            part = self.after.get(series.series_id)
            if part is None or series.kind is not kind or (system and series.system != system):
                continue
            if (not scenarios or series.scenario in scenarios) and (not actions or series.action in actions):
                yield series, part


@dataclass(frozen=True, slots=True)
class TotalAfter:
    """``cancelled``: how long those had gone on that the end of the run cut off; counted in none of the others."""

    response: Histogram
    sum_us: int
    failed: int
    cancelled: Histogram

    @property
    def count(self) -> int:
        return self.response.total


@dataclass(frozen=True, slots=True)
class Span:
    """The run in wall time; the verdict covers it from ``judged_from``, the end of ramp-up."""

    started: datetime
    judged_from: datetime
    ended: datetime

    @classmethod
    def of(cls, desired: RunDesired, state: RunState) -> "Span":
        started = state.started_at or desired.requested_at
        ended = max(state.ended_at or state.at, started)
        return cls(started, min(started + timedelta(seconds=desired.ramp_up_s), ended), ended)

    @property
    def duration_s(self) -> float:
        return (self.ended - self.started).total_seconds()

    @property
    def judged_s(self) -> float:
        return (self.ended - self.judged_from).total_seconds()
