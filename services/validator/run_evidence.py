"""The evidence about a benchmark that a whole run broke, and the parts of the run it was drawn from. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.validator.course import Course, follow
from services.validator.evidence import Evidence, Loads, TimedOut
from services.validator.facts import Facts
from services.validator.hop_change import compare_hops, part_calls
from services.validator.hop_table import TracedCall
from services.validator.hops import SlowestHop, find_slowest
from services.validator.verdict import Judgement
from shared.contracts.benchmarks import Benchmark, Benchmarks, Source, SystemBenchmarks
from shared.contracts.timing import ErrorKind, Kind

TOLD = ("cpu_usage", "queue_length")
READY_SHARE = 0.9
"""Of the seconds in which the instance seen longest was ready: others came or went and are not compared."""
_GIVEN_UP = (ErrorKind.TIMEOUT, ErrorKind.CONNECT_TIMEOUT, ErrorKind.DEADLINE)
AT_LIMIT = 0.05


@dataclass(frozen=True, slots=True)
class Broken:
    """One broken benchmark of one system."""

    system: str
    owner: SystemBenchmarks
    benchmark: Benchmark
    judgement: Judgement


def gather_evidence(benchmarks: Benchmarks, facts: Facts, broken: Broken) -> Evidence:
    """Everything the rules look at, for one broken benchmark."""
    system, benchmark = broken.system, broken.benchmark
    course = follow(facts, system, benchmark)
    errors: Counter[int] = Counter()
    slow: dict[str, float] = {}
    for series in facts.series:
        if series.system != system or series.kind is not Kind.REQUEST:
            continue
        if not benchmark.chooses(series.scenario, series.action):
            continue
        errors.update({kind: count for kind, count in series.errors.items() if kind != ErrorKind.CANCELLED})
        slow[series.action] = max(slow.get(series.action, 0.0), series.response.percentiles.get("p95", 0.0))
    timed = benchmark.source is Source.RESPONSE_TIME and bool(slow)
    slowest = max(slow, key=lambda action: slow[action], default="")
    return Evidence(
        display=broken.owner.name,
        service=broken.owner.service,
        benchmark=benchmark,
        value=broken.judgement.value or 0.0,
        limit=broken.judgement.limit,
        resources=_resources(facts, system, course.broken) or _resources(facts, system, course.broken | course.kept),
        resources_kept=_resources(facts, system, course.kept) if course.broken else {},
        errors=dict(errors),
        slowest_action=slowest if timed else "",
        slowest_ms=slow[slowest] if timed else 0.0,
        hop=_slowest_hop(facts, system) if benchmark.source is Source.WORKFLOW_TIME else None,
        changes=compare_hops(*part_calls(_calls(benchmarks, facts, system), course)) if course.has_both else (),
        instances=_instances(facts, system),
        timed_out=tuple(_timed_out(facts, system)),
        connecting=next((one for one in facts.connecting if one.system == system), None),
        loads=_loads(facts, benchmarks.reached([system]), course),
        names={owner.service: owner.name for owner in benchmarks.systems.values()},
    )


def _resources(facts: Facts, system: str, steps: Iterable[int]) -> dict[str, float]:
    """Means over some steps; what no instance told of is absent."""
    chosen, told = set(steps), dict[str, list[float]]()
    for row in facts.resources:
        if row["system"] == system and row["metric"] in TOLD and row["second"] in chosen:
            told.setdefault(row["metric"], []).append(float(row["mean"]))
    return {metric: sum(values) / len(values) for metric, values in told.items()}


def _slowest_hop(facts: Facts, system: str) -> SlowestHop | None:
    """Over the drawn calls of all scenarios whose workflows are measured at a system's door."""
    scenarios = {load.scenario.name for load in facts.desired.loads if load.scenario.system == system}
    return find_slowest(call for hops in facts.hops if hops.scenario in scenarios for call in hops.drawn)


def _calls(benchmarks: Benchmarks, facts: Facts, system: str) -> list[TracedCall]:
    """Calls of all scenarios that reach a system, through others too."""
    scenarios = {
        load.scenario.name for load in facts.desired.loads if system in benchmarks.reached(load.scenario.systems)
    }
    return [call for hops in facts.hops if hops.scenario in scenarios for call in hops.calls]


def _instances(facts: Facts, system: str) -> Mapping[str, Mapping[str, float]]:
    """Those that were ready for most of the time that any was."""
    told = [reading for reading in facts.instances if reading.system == system]
    most = max((reading.seconds for reading in told), default=0)
    present = Counter[str]()
    for reading in told:
        present[reading.instance] = max(present[reading.instance], reading.seconds)
    instances: dict[str, dict[str, float]] = {}
    for reading in told:
        if present[reading.instance] >= READY_SHARE * most:
            instances.setdefault(reading.instance, {})[reading.metric] = reading.median
    return instances


def _timed_out(facts: Facts, system: str) -> Iterable[TimedOut]:
    """Actions of which requests were given up, with the limit of their step that their longest lies at."""
    steps = {
        (load.scenario.name, step.action): step
        for load in facts.desired.loads
        for step in load.scenario.steps
        if step.system == system
    }
    for series in facts.series:
        step = steps.get((series.scenario, series.action))
        count = sum(series.errors.get(kind, 0) for kind in _GIVEN_UP)
        if step is None or series.system != system or series.kind is not Kind.REQUEST or not count:
            continue
        longest_s = (series.service.max or 0.0) / 1e3
        limits = {
            "timeout": step.timeout,
            "first_byte_timeout": step.first_byte_timeout,
            "connect_timeout": step.connect_timeout,
        }
        for name, limit_s in limits.items():
            if limit_s is not None and abs(longest_s - limit_s) <= AT_LIMIT * limit_s:
                yield TimedOut(series.action, count, name, limit_s)
                break


def _loads(facts: Facts, systems: Iterable[str], course: Course) -> Loads | None:
    """Model loads while the benchmark was broken, of the service that spent most time on them."""
    reached, told = set(systems), dict[str, list[float]]()
    for row in facts.resources:
        if row["system"] in reached and row["metric"] == "model_load_time" and row["second"] in course.broken:
            told.setdefault(row["service"], []).append(float(row["mean"]))
    if not told:
        return None
    service = max(sorted(told), key=lambda name: sum(told[name]))
    loads, step_s = told[service], facts.step_s
    return Loads(service, sum(loads) / len(loads), len(loads) * step_s, len(course.broken) * step_s)
