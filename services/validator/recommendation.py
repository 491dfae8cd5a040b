"""What to do about a broken benchmark: named rules over evidence, each with the figures it rests on.

The first rule that holds gives the advice, the others that hold support it; the last always does. Rules see evidence
only, never a store or a bus. What concerns a run as a whole stands in ``run_rules.py``.
"""

from collections.abc import Callable, Iterator

from services.validator.change_rules import cold_models, one_bad_replica, own_time_rose, uneven_load
from services.validator.evidence import Advice, Evidence, Figures
from shared.contracts.benchmarks import Source
from shared.contracts.timing import ErrorKind

BUSY_CPU = 0.8
QUEUE = 1.0
MAIN_SHARE = 0.5
OPENED_SHARE = 0.5
CONNECT_SHARE = 0.1

Rule = Callable[[Evidence], Advice | None]

_BY_KIND = {
    ErrorKind.CONNECT: "nothing accepts connections there: start {service} or look why it stopped",
    ErrorKind.CONNECT_TIMEOUT: "its accept queue is full or the way is closed: add {service} replicas",
    ErrorKind.TIMEOUT: "{service} does not answer in time: add replicas or look at what it waits for",
    ErrorKind.RESET: "{service} or what stands before it drops connections: look for restarts and idle timeouts",
    ErrorKind.DNS: "the name of {service} is not found: look at its address",
    ErrorKind.TLS: "the certificate of {service} is not accepted: renew or trust it",
    ErrorKind.AUTH: "{service} refuses the credentials: look at the user and the lifetime of its tokens",
    ErrorKind.CHECK: "{service} answers, but not what the scenario expects: look at the answer's content",
    ErrorKind.STATUS: "look at what {service} answers there, and at its logs",
}


def hanging(e: Evidence) -> Advice | None:
    if not e.stuck:
        return None
    text = (
        f"{e.stuck} requests wait unanswered beyond {e.benchmark.critical:g} {e.benchmark.unit}: "
        f"restart or replace instances of {e.service} that accept work and do not answer"
    )
    return Advice("hanging", text, {"requests_unanswered": e.stuck, "limit_ms": e.benchmark.critical})


def out_of_memory(e: Evidence) -> Advice | None:
    if e.benchmark.resource != "memory_usage":
        return None
    text = f"{e.seen}: look for a leak in {e.service}, or raise its memory limit"
    return Advice("out_of_memory", text, {"memory_mb": round(e.value, 1), "limit_mb": e.limit})


def timed_out_at_limit(e: Evidence) -> Advice | None:
    """Requests given up at the scenario's own limit took longer than any figure here can show."""
    total = sum(e.errors.values())
    if not (e.benchmark.source.of_requests and e.timed_out):
        return None
    most = max(e.timed_out, key=lambda one: one.count)
    if e.benchmark.source is Source.ERROR_RATE and most.count < MAIN_SHARE * total:
        return None
    text = (
        f"{e.seen}; {most.count} requests of {most.action} were given up at {most.limit_s:g} s, the step's own "
        f"{most.limit}: look at what {e.service} waits for; a longer {most.limit} would only show how long"
    )
    figures = {"action": most.action, "requests": most.count, "limit": most.limit, "limit_s": most.limit_s}
    return Advice("timed_out_at_limit", text, figures)


def spent_elsewhere(e: Evidence) -> Advice | None:
    """Beats what is seen of the system itself: a system that waits for another one has a long line too."""
    return None if e.hop is None or e.hop.hop.service == e.service else _spent(e, "spent_elsewhere")


def spent_here(e: Evidence) -> Advice | None:
    return None if e.hop is None else _spent(e, "spent_here")


def _spent(e: Evidence, rule: str) -> Advice | None:
    if e.hop is None or e.hop.share < MAIN_SHARE:
        return None
    text = (
        f"{e.seen}; traced calls spent {e.hop.share:.0%} of their time in {e.hop.hop}, {e.hop.p50_ms:.4g} ms a call at "
        f"p50 and {e.hop.p95_ms:.4g} ms at p95: add {e.hop.hop.service} replicas or raise its concurrency"
    )
    figures = {"hop": str(e.hop.hop), "share": round(e.hop.share, 4), "p50_ms": e.hop.p50_ms, "p95_ms": e.hop.p95_ms}
    return Advice(rule, text, figures)


def queue_builds(e: Evidence) -> Advice | None:
    queue, kept = e.resources.get("queue_length", 0.0), e.resources_kept.get("queue_length")
    if e.benchmark.source is Source.ERROR_RATE or queue < QUEUE or (kept or 0.0) > queue:
        return None
    before = "" if kept is None else f" ({kept:.1f} while it was kept)"
    text = (
        f"{e.seen}; {queue:.1f} tasks wait in line per instance{before}: "
        f"add {e.service} replicas or raise its concurrency"
    )
    return Advice("queue_builds", text, _both("queue_length", queue, kept))


def cpu_saturated(e: Evidence) -> Advice | None:
    cpu, kept = e.resources.get("cpu_usage", 0.0), e.resources_kept.get("cpu_usage")
    if e.benchmark.source is Source.ERROR_RATE or cpu < BUSY_CPU or (kept or 0.0) > cpu:
        return None
    before = "" if kept is None else f" ({kept:.0%} while it was kept)"
    text = f"{e.seen}; CPU at {cpu:.0%} of its limit{before}: add {e.service} replicas"
    return Advice("cpu_saturated", text, _both("cpu_usage", cpu, kept))


def connections_not_reused(e: Evidence) -> Advice | None:
    c = e.connecting
    if c is None or e.benchmark.source not in (Source.RESPONSE_TIME, Source.WORKFLOW_TIME):
        return None
    if c.opened < OPENED_SHARE * c.looked_at or c.connect_ms < CONNECT_SHARE * c.service_ms:
        return None
    share = c.opened / c.looked_at
    text = (
        f"{e.seen}; {share:.0%} of {c.looked_at:,} requests opened a connection of their own, {c.connect_ms:.4g} ms of "
        f"{c.service_ms:.4g} ms each: let {e.service} keep connections alive"
    )
    times = {"connect_ms": round(c.connect_ms, 3), "service_ms": round(c.service_ms, 3)}
    return Advice("connections_not_reused", text, {"opened_share": round(share, 4), **times})


def errors_of_one_kind(e: Evidence) -> Advice | None:
    total = sum(e.errors.values())
    if e.benchmark.source is not Source.ERROR_RATE or not total:
        return None
    kind, count = max(e.errors.items(), key=lambda item: item[1])
    if count < MAIN_SHARE * total:
        return None
    known = kind in set(ErrorKind)
    name = ErrorKind(kind).name.lower() if known else str(kind)
    advice = _BY_KIND.get(ErrorKind(kind)) if known else None
    text = (
        f"{e.seen}; {count} of {total} failures are of kind {name}: "
        f"{(advice or 'look at what {service} answers there').format(service=e.service)}"
    )
    return Advice("errors_of_one_kind", text, {"kind": name, "failures": count, "of_failures": total})


def throughput_short(e: Evidence) -> Advice | None:
    if not e.benchmark.demand_limited:
        return None
    text = f"{e.seen} although more was asked for: raise {e.service}'s capacity"
    return Advice("throughput_short", text, {"value": round(e.value, 4), "limit": e.limit})


def one_action_slow(e: Evidence) -> Advice | None:
    if not e.slowest_action:
        return None
    text = f"{e.seen}; slowest is {e.slowest_action} with {e.slowest_ms:.4g} ms: look there first"
    return Advice("one_action_slow", text, {"action": e.slowest_action, "p95_ms": round(e.slowest_ms, 3)})


def look(e: Evidence) -> Advice | None:
    text = f"{e.seen}: look at the exemplar traces and at {e.service}'s resources"
    return Advice("look", text, {"value": round(e.value, 4), "limit": e.limit})


RULES: tuple[Rule, ...] = (
    hanging,
    out_of_memory,
    timed_out_at_limit,
    one_bad_replica,
    uneven_load,
    own_time_rose,
    cold_models,
    spent_elsewhere,
    queue_builds,
    cpu_saturated,
    connections_not_reused,
    errors_of_one_kind,
    throughput_short,
    spent_here,
    one_action_slow,
)


def find_advice(evidence: Evidence) -> Iterator[Advice]:
    """Every rule that holds, the weightiest first; at least one."""
    held = False
    for rule in RULES:
        advice = rule(evidence)
        if advice is not None:
            held = True
            yield advice
    if not held and (last := look(evidence)):
        yield last


def recommend(evidence: Evidence) -> str:
    """Advice of the first rule that holds, in words."""
    return next(find_advice(evidence)).text


def _both(metric: str, broken: float, kept: float | None) -> Figures:
    figures = {metric: round(broken, 4)}
    return figures if kept is None else {**figures, f"{metric}_while_kept": round(kept, 4)}
