"""What advice rests on: everything that was seen of one broken benchmark, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.validator.hop_change import HopChange
from services.validator.hops import SlowestHop
from shared.contracts.benchmarks import Benchmark
from shared.store.figures import Connecting

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, by which rule, and the figures it rests on; units stand in their names."""

    rule: str
    text: str
    figures: Figures = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Requests of an action given up at one of the limits that its step has (``limit``: the field's name)."""

    action: str
    count: int
    limit: str
    limit_s: float


@dataclass(frozen=True, slots=True)
class Loads:
    """Model loads of a service: their mean time, in how many seconds of so many there were any."""

    service: str
    mean_ms: float
    seconds: int
    of_seconds: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen in the window of a broken benchmark, or in the part of a whole run that broke it.

    ``resources``: mean per metric of the system; ``resources_kept``: the same while the benchmark was kept.
    ``errors``: failed requests by ``ErrorKind``. ``stuck``: requests unanswered beyond the critical limit.
    ``slowest_action`` with its own value, in ms. ``hop``: where traced calls that the benchmark is about spent most of
    their time; ``changes``: how hops changed as it broke. ``instances``: by instance, median per metric. ``names``: of
    systems by their service.
    """

    display: str
    service: str
    benchmark: Benchmark
    value: float
    limit: float
    resources: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[int, int] = field(default_factory=dict)
    stuck: int = 0
    slowest_action: str = ""
    slowest_ms: float = 0.0
    hop: SlowestHop | None = None
    resources_kept: Mapping[str, float] = field(default_factory=dict)
    changes: Sequence[HopChange] = ()
    instances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    timed_out: Sequence[TimedOut] = ()
    connecting: Connecting | None = None
    loads: Loads | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def seen(self) -> str:
        b = self.benchmark
        return f"{self.display} {b.metric} {b.statistic} is {self.value:.4g} {b.unit}, limit {self.limit:g}"

    def name_of(self, service: str) -> str:
        return self.names.get(service, service)
