"""What to do about a broken benchmark: named rules over named evidence, each with the figures it rests on.

The first rule that holds gives the advice; the last always does. Rules see evidence only, never a store or a bus.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from services.validator.hops import SlowestHop
from shared.contracts.benchmarks import Benchmark, Source
from shared.contracts.timing import ErrorKind

BUSY_CPU = 0.8
QUEUE = 1.0
MAIN_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen in the window of a broken benchmark.

    ``resources``: mean per metric of the system. ``errors``: failed requests by ``ErrorKind``. ``stuck``: requests
    unanswered beyond the critical limit. ``slowest_action`` with its own value, in ms. ``hop``: where traced calls
    that the benchmark is about spent most of their time.
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

    @property
    def seen(self) -> str:
        b = self.benchmark
        return f"{self.display} {b.metric} {b.statistic} is {self.value:.4g} {b.unit}, limit {self.limit:g}"


Rule = Callable[[Evidence], str | None]


def hanging(e: Evidence) -> str | None:
    if not e.stuck:
        return None
    return (
        f"{e.stuck} requests wait unanswered beyond {e.benchmark.critical:g} {e.benchmark.unit}: "
        f"restart or replace instances of {e.service} that accept work and do not answer"
    )


def out_of_memory(e: Evidence) -> str | None:
    if e.benchmark.metric != "memory_usage":
        return None
    return f"{e.seen}: look for a leak in {e.service}, or raise its memory limit"


def spent_elsewhere(e: Evidence) -> str | None:
    """Beats what is seen of the system itself: a system that waits for another one has a long line too."""
    return None if e.hop is None or e.hop.hop.service == e.service else _spent(e)


def spent_here(e: Evidence) -> str | None:
    return None if e.hop is None else _spent(e)


def _spent(e: Evidence) -> str | None:
    if e.hop is None or e.hop.share < MAIN_SHARE:
        return None
    return (
        f"{e.seen}; traced calls spent {e.hop.share:.0%} of their time in {e.hop.hop}, {e.hop.p50_ms:.4g} ms a call at "
        f"p50 and {e.hop.p95_ms:.4g} ms at p95: add {e.hop.hop.service} replicas or raise its concurrency"
    )


def queue_builds(e: Evidence) -> str | None:
    queue = e.resources.get("queue_length", 0.0)
    if e.benchmark.source is Source.ERROR_RATE or queue < QUEUE:
        return None
    return f"{e.seen}; {queue:.1f} tasks wait in line per instance: add {e.service} replicas or raise its concurrency"


def cpu_saturated(e: Evidence) -> str | None:
    cpu = e.resources.get("cpu_usage", 0.0)
    if e.benchmark.source is Source.ERROR_RATE or cpu < BUSY_CPU:
        return None
    return f"{e.seen}; CPU at {cpu:.0%} of its limit: add {e.service} replicas"


def errors_of_one_kind(e: Evidence) -> str | None:
    total = sum(e.errors.values())
    if e.benchmark.source is not Source.ERROR_RATE or not total:
        return None
    kind, count = max(e.errors.items(), key=lambda item: item[1])
    if count < MAIN_SHARE * total:
        return None
    name = ErrorKind(kind).name.lower() if kind in set(ErrorKind) else str(kind)
    return f"{e.seen}; {count} of {total} failures are of kind {name}: look at what {e.service} answers there"


def throughput_short(e: Evidence) -> str | None:
    if not e.benchmark.demand_limited:
        return None
    return f"{e.seen} although more was asked for: raise {e.service}'s capacity"


def one_action_slow(e: Evidence) -> str | None:
    if not e.slowest_action:
        return None
    return f"{e.seen}; slowest is {e.slowest_action} with {e.slowest_ms:.4g} ms: look there first"


def _look(e: Evidence) -> str:
    return f"{e.seen}: look at the exemplar traces and at {e.service}'s resources"


RULES: tuple[Rule, ...] = (
    hanging,
    out_of_memory,
    spent_elsewhere,
    queue_builds,
    cpu_saturated,
    errors_of_one_kind,
    throughput_short,
    spent_here,
    one_action_slow,
)


def recommend(evidence: Evidence) -> str:
    """Advice of the first rule that holds."""
    return next((text for rule in RULES if (text := rule(evidence))), _look(evidence))
