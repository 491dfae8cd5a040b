"""Rules that compare: hops before and after, one replica with its neighbours, cold models with warm ones. Pure."""

from collections.abc import Mapping
from statistics import median

from services.validator.evidence import Advice, Evidence
from services.validator.hop_change import HopChange
from services.validator.hops import GENERATOR
from shared.contracts.benchmarks import Benchmark, Source

ROSE, STAYED = 1.5, 1.25
"""Factors of a p95 between the two parts."""
PATH_SHARE = 0.1
"""Of a whole call: what a hop must add to it to explain that the call became slow."""
BAD_REPLICA, BAD_LEAST_MS = 3.0, 5.0
UNEVEN = 1.75
LEAST_RATE = 1.0
LEAST_LOADS_S = 2
LOAD_SHARE = 0.5


def own_time_rose(e: Evidence) -> Advice | None:
    """The hop that added most as the benchmark broke; a resource names its own service, so only its hops count."""
    rose = next((change for change in e.changes if _matters(e, change)), None)
    if rose is None:
        return None
    others = (other for other in e.changes if _stayed(other, rose))
    stayed = max(others, key=lambda other: other.broken_path_ms, default=None)
    beside, figures = "", dict[str, object]()
    if stayed is not None:
        beside = f" while {e.name_of(stayed.hop.service)}'s stayed at {stayed.broken_p95_ms:.4g} ms"
        figures = {"stayed": str(stayed.hop), "stayed_p95_ms": round(stayed.broken_p95_ms, 3)}
    text = (
        f"{e.seen}; {_of(e, rose)} rose from {rose.kept_p95_ms:.3g} to {rose.broken_p95_ms:.3g} ms at p95{beside}: "
        f"add {rose.hop.service} replicas or raise its concurrency"
    )
    return Advice(
        "own_time_rose",
        text,
        {
            "hop": str(rose.hop),
            "kept_p95_ms": round(rose.kept_p95_ms, 3),
            "broken_p95_ms": round(rose.broken_p95_ms, 3),
            "kept_calls": rose.kept_calls,
            "broken_calls": rose.broken_calls,
            **figures,
        },
    )


def _matters(e: Evidence, change: HopChange) -> bool:
    if change.hop.service in ("", GENERATOR) or change.factor < ROSE:
        return False
    if not e.benchmark.source.of_requests:
        return change.hop.service == e.service and change.path_rise_ms > 0
    whole_ms = sum(one.kept_path_ms for one in e.changes)
    return change.path_rise_ms >= PATH_SHARE * whole_ms


def _stayed(other: HopChange, rose: HopChange) -> bool:
    known = other.hop.kind == "own" and other.hop.service not in (GENERATOR, rose.hop.service)
    return known and 1 / STAYED <= other.factor <= STAYED


def _of(e: Evidence, change: HopChange) -> str:
    hop = change.hop
    if hop.kind == "own":
        return f"{e.name_of(hop.service)}'s own time"
    if hop.kind == "network":
        return f"the way from {e.name_of(hop.via)} to {e.name_of(hop.service)}, the line before its door included,"
    return f"the time of {e.name_of(hop.via)}'s calls to {e.name_of(hop.service)}"


def one_bad_replica(e: Evidence) -> Advice | None:
    """An instance several times as slow as its neighbours: by the metric itself, or by Little's law over its load."""
    if e.benchmark.source is Source.ERROR_RATE or len(e.instances) < 2:
        return None
    metric = e.benchmark.resource if _timed(e.benchmark) else ""
    times = {name: values[metric] for name, values in e.instances.items() if metric in values}
    if len(times) < 2:
        metric = "time in the instance"
        times = {
            name: 1e3 * values["requests_in_flight"] / values["request_rate"]
            for name, values in e.instances.items()
            if values.get("request_rate", 0.0) >= LEAST_RATE and "requests_in_flight" in values
        }
    if len(times) < 2:
        return None
    worst, others = _worst(times)
    if times[worst] < max(BAD_REPLICA * others, BAD_LEAST_MS):
        return None
    text = (
        f"{e.seen}; of {len(times)} instances {worst} alone is slow: {metric} {times[worst]:.3g} ms, the others "
        f"{others:.3g} ms: replace {worst} of {e.service}; more replicas would not help"
    )
    slow_ms, others_ms = round(times[worst], 3), round(others, 3)
    figures = {"instance": worst, "metric": metric, "instance_ms": slow_ms, "others_ms": others_ms}
    return Advice("one_bad_replica", text, figures)


def uneven_load(e: Evidence) -> Advice | None:
    """One instance gets a multiple of what the others do; the mean over instances hides it."""
    rates = {name: values["request_rate"] for name, values in e.instances.items() if "request_rate" in values}
    if e.benchmark.source is Source.ERROR_RATE or len(rates) < 2:
        return None
    busiest, others = _worst(rates)
    if rates[busiest] < max(UNEVEN * others, LEAST_RATE):
        return None
    text = (
        f"{e.seen}; {busiest} of {e.service} gets {rates[busiest]:.3g} requests/s, the others {others:.3g}: balance by "
        f"request rather than by connection, or let callers reopen connections; more replicas would stand idle"
    )
    figures = {"instance": busiest, "requests_per_s": round(rates[busiest], 3), "others_per_s": round(others, 3)}
    return Advice("uneven_load", text, figures)


def cold_models(e: Evidence) -> Advice | None:
    """Models were loaded while requests waited, and for long enough to explain the limit."""
    loads, itself = e.loads, "model_load_time" in (e.benchmark.metric, e.benchmark.resource)
    if loads is None or not _timed(e.benchmark) or itself:
        return None
    if loads.seconds < LEAST_LOADS_S or loads.mean_ms < LOAD_SHARE * e.limit:
        return None
    text = (
        f"{e.seen}; {e.name_of(loads.service)} loaded models in {loads.seconds} of {loads.of_seconds} s, "
        f"{loads.mean_ms:.4g} ms each: keep models loaded, or load them before traffic comes"
    )
    figures = {"service": loads.service, "load_ms": round(loads.mean_ms, 1), "seconds_with_loads": loads.seconds}
    return Advice("cold_models", text, figures)


def _timed(benchmark: Benchmark) -> bool:
    return benchmark.unit == "ms"


def _worst(values: Mapping[str, float]) -> tuple[str, float]:
    """The instance with the greatest value of at least two, and the median of the others."""
    worst = max(values, key=lambda name: (values[name], name))
    return worst, median(value for name, value in values.items() if name != worst)
