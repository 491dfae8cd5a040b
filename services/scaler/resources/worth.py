"""What other sizes are worth - latency, cost, headroom - and what could go wrong. Pure."""

from services.scaler.resources.item import Impact, Risk
from services.scaler.resources.observed import Use
from services.scaler.resources.queueing import wait_ms
from services.scaler.resources.usage import Summary
from services.scaler.situation import Sizes
from shared.contracts.prices import Prices

DAY_S = 86_400.0


def impact(use: Use, part: str, spread: Summary, after: Sizes, prices: Prices | None) -> Impact:
    """Of replicas that have ``after`` instead of ``use.sizes``. ``spread``: of what ``part`` is about."""
    used = spread.p95 if part == "cpu" else spread.peak
    limit = getattr(after, f"{part}_limit")
    label = "p95" if part == "cpu" else "the most"
    headroom = "" if limit is None else f"{label} of use is {used / limit:.0%} of the limit"
    latency, latency_ms = _latency(use, after) if part == "cpu" else ("none: memory in use is not touched", 0.0)
    promised, before = getattr(after, f"{part}_reserved"), getattr(use.sizes, f"{part}_reserved")
    if promised is None or before is None:
        return Impact(
            latency=latency, latency_ms=latency_ms, headroom=headroom, cost="unknown: what is promised is not told"
        )
    freed = (promised - before) * use.replicas
    an_hour = (freed * 3600, 0.0) if part == "cpu" else (0.0, freed * 3600)
    cost_per_hour = None if prices is None else round(prices.cost(*an_hour), 6)
    unit = "cores" if part == "cpu" else "MB"
    cost = f"{freed:+.4g} {unit} promised over {use.replicas:.3g} replicas"
    if prices is not None:
        cost += f", {cost_per_hour:+.4g} {prices.currency} an hour"
    return Impact(
        latency=latency,
        cost=cost,
        headroom=headroom,
        latency_ms=latency_ms,
        cores=round(freed, 6) if part == "cpu" else None,
        memory_mb=round(freed, 6) if part == "memory" else None,
        cost_per_hour=cost_per_hour,
    )


def _latency(use: Use, after: Sizes) -> tuple[str, float | None]:
    cores, rate = use.cpu_cores, use.request_rate
    if cores is None or rate is None or rate.p95 <= 0 or use.sizes.cpu_limit is None or after.cpu_limit is None:
        return "unknown: needs a CPU limit and requests/s per replica", None
    now, then = (wait_ms(limit, cores.p95, rate.p95) for limit in (use.sizes.cpu_limit, after.cpu_limit))
    if now is None or then is None:
        return "use at p95 reaches the limit on one side, where the formula has no answer", None
    words = f"mean wait for a core at p95 of use {now:.3g} → {then:.3g} ms (Sakasegawa's formula, Poisson arrivals)"
    return words, round(then - now, 3)


def _shrinks(use: Use, sizes: Sizes) -> bool:
    return any(
        (value := getattr(sizes, name)) is not None and value < (getattr(use.sizes, name) or 0.0)
        for name in ("cpu_limit", "memory_limit")
    )


def risk(use: Use, sizes: Sizes) -> Risk:
    """Of giving replicas these sizes: less than before, seen for less than a day, is the highest."""
    if not _shrinks(use, sizes):
        return "low"
    return "medium" if use.span_s >= DAY_S else "high"


def risk_reason(use: Use, sizes: Sizes) -> str:
    """Why the risk is what it is."""
    if not _shrinks(use, sizes):
        return "replicas get no less than before; they are replaced one after another"
    if use.span_s < DAY_S:
        return f"only {use.span_s / 3600:.3g} h were seen, so a busier hour of the day may be missing"
    return "a load that was not seen yet would meet smaller replicas; it is watched and taken back when worse"
