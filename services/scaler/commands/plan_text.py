"""A plan in words, for a terminal. Pure."""

from collections.abc import Iterator, Sequence

from services.scaler.resources.bounds import told
from services.scaler.resources.item import Item
from services.scaler.resources.plan import Plan, Step

PARTS = {"cpu": "CPU", "memory": "Memory", "network": "Network", "storage": "Storage"}


def tell_plan(plan: Plan) -> Iterator[str]:
    """Line by line: every part with its items, what all of them are worth, and what was left out."""
    for part, title in PARTS.items():
        its = [item for item in plan.items if item.part == part]
        yield title
        if not its:
            yield "  nothing to advise"
        for item in its:
            yield from _tell_item(item)
        yield ""
    yield f"Together: {tell_impact(plan)}"
    if plan.notes:
        yield "Left out:"
        yield from (f"  {note}" for note in plan.notes)
    if any(item.applicable for item in plan.items):
        yield f"To carry it out (plan {plan.plan}): tidegate optimize --apply [ITEM...]"


def tell_impact(plan: Plan) -> str:
    """What all items together are estimated to change."""
    sums = plan.impact()
    words = [f"{sums['cores']:+.4g} cores", f"{sums['memory_mb']:+.5g} MB promised"]
    if sums["cost_per_hour"]:
        words.append(f"{sums['cost_per_hour']:+.4g} {plan.currency} an hour")
    words.append(f"{sums['latency_ms']:+.4g} ms for a request that passes everything advised on")
    return ", ".join(words)


def _tell_item(item: Item) -> Iterator[str]:
    yield f"  {item.id}: {item.title}"
    yield from (f"      {line}" for line in item.evidence)
    for name in ("latency", "cost", "headroom"):
        if words := getattr(item.impact, name):
            yield f"      {name}: {words}"
    yield f"      risk {item.risk}: {item.risk_reason}"
    if not item.applicable:
        yield f"      not applied by Tidegate: {item.why_not}"


def tell_steps(steps: Sequence[Step]) -> Iterator[str]:
    """What applying would do, one line a service."""
    for number, step in enumerate(steps, 1):
        items = ", ".join(item.id for item in step.items)
        risk = max((item.risk for item in step.items), key=("low", "medium", "high").index)
        yield f"{number}. {step.service}: {told(step.sizes)} per replica ({items}; risk {risk})"
