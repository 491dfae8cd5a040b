"""Right sizes of one service's replicas from what they used: CPU and memory, limits and what is promised. Pure.

CPU: promised p90, limit p95 of use, each with the headroom asked for; raised where the limit throttled. Memory: maximum
and 15 %; never upward while a leak is suspected. Both leave what scales the service out below 0.9 of its threshold, so
that a smaller replica is not one that asks for another. What changes by less than 10 % stays. The rules are those of
the Vertical Pod Autoscaler and of krr; figures are over instances, so that no mean over replicas hides a full one.
"""

import math
from dataclasses import dataclass, field

from services.scaler.candidates import PROJECTED_LOAD
from services.scaler.resources.bounds import NAMES, bounded, differs, over
from services.scaler.resources.item import Advice, Impact, Item
from services.scaler.resources.observed import FULL, Use
from services.scaler.resources.resize import no_way_back
from services.scaler.resources.usage import Summary
from services.scaler.resources.worth import impact, risk, risk_reason
from services.scaler.situation import Sizes
from shared.contracts.prices import Prices
from shared.contracts.scaling_rules import ServiceRules

ENOUGH = 100
"""Samples below which nothing is said."""
LEAST_CHANGE = 0.1
MEMORY_HEADROOM = 0.15
THROTTLED = 0.05
"""Share of scheduler periods from which on the limit was too low."""
CPU_STEP, MEMORY_STEP = 0.05, 16.0
"""Sizes are rounded up to these."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Sizes asked for before bounds, and what speaks for them."""

    sizes: Sizes
    evidence: tuple[str, ...]
    figures: dict[str, float] = field(default_factory=dict)
    raised: bool = False


def right_size(use: Use, rules: ServiceRules, headroom: float, prices: Prices | None) -> Advice:
    """The CPU and the memory item of a service, and why one is absent."""
    return _cpu(use, rules, headroom, prices) + _memory(use, rules, prices)


def _cpu(use: Use, rules: ServiceRules, headroom: float, prices: Prices | None) -> Advice:
    cores = use.cpu_cores
    if cores is None or cores.samples < ENOUGH:
        return _too_little(use.service, "CPU", cores)
    limit = use.sizes.cpu_limit
    throttled = use.cpu_throttled.p95 if use.cpu_throttled is not None else 0.0
    choked = limit is not None and (throttled > THROTTLED or cores.p95 >= FULL * limit)
    wanted = max(cores.p95 * (1 + headroom), _below_scaling(rules, "cpu_usage", cores.p95))
    if choked and limit is not None:
        # Use that a limit cut off says only that more is needed, not how much.
        wanted = max(wanted, limit * (1 + max(headroom, throttled)))
    evidence = [f"use per replica p90 {cores.p90:.3g}, p95 {cores.p95:.3g}, most {cores.peak:.3g} cores"]
    if use.cpu_throttled is not None:
        evidence.append(f"throttled in {throttled:.1%} of scheduler periods at p95")
    if choked and throttled <= THROTTLED:
        evidence.append(f"p95 is at {cores.p95 / (limit or cores.p95):.0%} of the limit, so use was cut off by it")
    sizes = Sizes(cpu_limit=_up(wanted, CPU_STEP), cpu_reserved=_up(cores.p90 * (1 + headroom), CPU_STEP))
    figures = {"p90_cores": cores.p90, "p95_cores": cores.p95, "max_cores": cores.peak, "throttled_p95": throttled}
    return _item(use, rules, prices, "cpu", cores, _Wanted(sizes, tuple(evidence), figures, choked))


def _memory(use: Use, rules: ServiceRules, prices: Prices | None) -> Advice:
    memory = use.memory_mb
    if memory is None or memory.samples < ENOUGH:
        return _too_little(use.service, "memory", memory)
    limit = use.sizes.memory_limit
    full = use.full_ends > 0
    wanted = max(memory.peak * (1 + MEMORY_HEADROOM), _below_scaling(rules, "memory_ratio", memory.peak))
    if full and limit is not None:
        wanted = max(wanted, limit * (1 + MEMORY_HEADROOM))
    evidence = [f"use per replica p95 {memory.p95:.4g}, most {memory.peak:.4g} MB"]
    if full:
        evidence.append(f"{use.full_ends} instances ended or began anew while their memory was full")
    sizes = Sizes(
        memory_limit=_up(wanted, MEMORY_STEP), memory_reserved=_up(memory.peak * (1 + MEMORY_HEADROOM), MEMORY_STEP)
    )
    figures = {"p95_mb": memory.p95, "max_mb": memory.peak, "full_ends": float(use.full_ends)}
    if use.leaking:
        return Advice(items=(_leak(use, tuple(evidence), figures),))
    return _item(use, rules, prices, "memory", memory, _Wanted(sizes, tuple(evidence), figures, full))


def _leak(use: Use, evidence: tuple[str, ...], figures: dict[str, float]) -> Item:
    names = ", ".join(use.leaking)
    return Item(
        id=f"memory.{use.service}.leak",
        part="memory",
        subject=use.service,
        title=f"find the leak before {use.service} is given other sizes",
        evidence=(f"memory of {names} grows without the load growing", *evidence, _span(use, use.memory_mb)),
        figures=figures,
        impact=Impact(headroom="more memory would only put off the end; tidegate resources tells when it is reached"),
        risk="high",
        risk_reason="the instances will reach their limit",
        why_not="a leak is mended in the service",
    )


def _item(use: Use, rules: ServiceRules, prices: Prices | None, part: str, spread: Summary, wanted: _Wanted) -> Advice:
    goal = wanted.sizes if not wanted.raised else _never_lower(wanted.sizes, use.sizes)
    goal = _promised_within(_with_way_back(goal, use.sizes))
    allowed, bounds = (goal, ()) if rules.resizing is None else bounded(goal, use.sizes, rules.resizing)
    sizes = _worth_it(allowed, use.sizes)
    if sizes == Sizes():
        words = f"{use.service}: {part} is within {LEAST_CHANGE:.0%} of what is right"
        if wanted.raised:
            words = f"{use.service}: {part} was too little and {'; '.join(bounds) or 'cannot be raised'}"
        return Advice(notes=(words,))
    after = over(use.sizes, sizes)
    why_not = _why_not(use, rules, sizes)
    return Advice(
        items=(
            Item(
                id=f"{part}.{use.service}",
                part="cpu" if part == "cpu" else "memory",
                subject=use.service,
                title=f"{use.service}: {part} per replica {_arrows(use.sizes, sizes)}",
                evidence=(*wanted.evidence, _span(use, spread), *bounds),
                figures={**wanted.figures, "samples": float(spread.samples), "span_s": use.span_s},
                impact=impact(use, part, spread, after, prices),
                risk=risk(use, sizes),
                risk_reason=risk_reason(use, sizes),
                applicable=not why_not,
                why_not=why_not,
                from_sizes=use.sizes,
                to_sizes=sizes,
            ),
        )
    )


def _too_little(service: str, what: str, spread: Summary | None) -> Advice:
    if spread is None:
        unit = "cores" if what == "CPU" else "MB"
        return Advice(notes=(f"{service}: no samples tell its {what} in {unit}",))
    return Advice(notes=(f"{service}: {spread.samples} samples of its {what}, {ENOUGH} are needed",))


def _below_scaling(rules: ServiceRules, metric: str, used: float) -> float:
    """The limit with which this use stays under 0.9 of what the rules scale out at; 0 without such a rule."""
    above = next((rule.above for rule in rules.up if rule.metric == metric), None)
    return 0.0 if above is None else used / (PROJECTED_LOAD * above)


def _up(value: float, step: float) -> float:
    return round(math.ceil(value / step - 1e-9) * step, 6)


def _never_lower(wanted: Sizes, now: Sizes) -> Sizes:
    return Sizes(
        **{
            name: max(value, getattr(now, name) or 0.0)
            for name in NAMES
            if (value := getattr(wanted, name)) is not None
        }
    )


def _promised_within(sizes: Sizes) -> Sizes:
    changes = {}
    for part in ("cpu", "memory"):
        limit, promised = getattr(sizes, f"{part}_limit"), getattr(sizes, f"{part}_reserved")
        if limit is not None and promised is not None and promised > limit:
            changes[f"{part}_reserved"] = limit
    return sizes.model_copy(update=changes)


def _worth_it(wanted: Sizes, now: Sizes) -> Sizes:
    """Only what changes by 10 % or more, and the promise that has to follow its limit down."""
    kept: dict[str, float] = {}
    for name in NAMES:
        value, there = getattr(wanted, name), getattr(now, name)
        if value is None or not differs(value, there):
            continue
        if not there or abs(value - there) >= LEAST_CHANGE * there - 1e-9:
            kept[name] = value
    for part in ("cpu", "memory"):
        limit, promised = kept.get(f"{part}_limit"), getattr(now, f"{part}_reserved")
        if limit is not None and f"{part}_reserved" not in kept and promised is not None and promised > limit:
            kept.pop(f"{part}_limit")
        limit_there = getattr(now, f"{part}_limit")
        if f"{part}_limit" not in kept and limit_there is not None and kept.get(f"{part}_reserved", 0) > limit_there:
            kept.pop(f"{part}_reserved")
    return Sizes(**kept)


def _with_way_back(wanted: Sizes, now: Sizes) -> Sizes:
    """Only sizes that there are already, as a first one cannot be taken back; all where there are none."""
    known = {name: value for name in NAMES if (value := getattr(wanted, name)) is not None and getattr(now, name)}
    return Sizes(**known) if known else wanted


def _why_not(use: Use, rules: ServiceRules, sizes: Sizes) -> str:
    if rules.resizing is None or not rules.resizing.enabled:
        state = "is not set" if rules.resizing is None else "is not enabled"
        return f"services.{use.service}.resizing {state} in config/scaling.yaml"
    if not use.told or use.sizes == Sizes():
        return "the target does not tell what its replicas may use, so it cannot be asked to change it"
    return no_way_back(use.sizes, sizes)


def _span(use: Use, spread: Summary | None) -> str:
    samples = 0 if spread is None else spread.samples
    return f"{samples} samples of {use.replicas:.3g} replicas over {use.span_s / 3600:.3g} h"


def _arrows(now: Sizes, to: Sizes) -> str:
    words = []
    for name in NAMES:
        value, there = getattr(to, name), getattr(now, name)
        if value is not None:
            label = "limit" if name.endswith("limit") else "promised"
            words.append(f"{label} {'none told' if there is None else f'{there:g}'} → {value:g}")
    unit = "cores" if to.cpu_limit is not None or to.cpu_reserved is not None else "MB"
    return f"{', '.join(words)} {unit}"
