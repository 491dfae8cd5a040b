"""The optimization plan: right sizes, network and storage in one list, with what could not be told. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.scaler.resources.item import Advice, Item
from services.scaler.resources.network import NetworkUse, advise_network
from services.scaler.resources.observed import Use
from services.scaler.resources.right_sizing import right_size
from services.scaler.resources.storage import StorageUse, advise_storage
from services.scaler.situation import Sizes
from shared.contracts.base import Message
from shared.contracts.prices import Prices
from shared.contracts.scaling_rules import ServiceRules
from shared.errors import ConfigError, closest

HEADROOM = 0.3


class Plan(Message):
    """``plan``: a digest of its items, the same for the same advice. ``notes``: what was left out, and why."""

    plan: str
    items: tuple[Item, ...] = ()
    notes: tuple[str, ...] = ()
    currency: str = ""

    def as_json(self) -> dict[str, Any]:
        """With the impact of all items."""
        return {**self.model_dump(mode="json"), "impact": self.impact()}

    def impact(self) -> dict[str, float]:
        """What all items together are estimated to change, by name; those that say nothing count as nothing."""
        sums = {"latency_ms": 0.0, "cores": 0.0, "memory_mb": 0.0, "cost_per_hour": 0.0}
        for item in self.items:
            for name in sums:
                sums[name] += getattr(item.impact, name) or 0.0
        return {name: round(value, 6) for name, value in sums.items()}


@dataclass(frozen=True, slots=True)
class Step:
    """The items of one service that are carried out by one update of it."""

    service: str
    items: tuple[Item, ...]
    from_sizes: Sizes
    sizes: Sizes


def make_plan(
    uses: Sequence[Use],
    rules: Mapping[str, ServiceRules],
    network: NetworkUse,
    storage: StorageUse,
    headroom: float = HEADROOM,
    prices: Prices | None = None,
) -> Plan:
    """Everything that can be advised: items that can be applied first, otherwise in the order of the parts."""
    found = Advice()
    for use in uses:
        if use.service in rules:
            found += right_size(use, rules[use.service], headroom, prices)
        else:
            found += Advice(notes=(f"{use.service}: no rules in config/scaling.yaml, so no sizes are advised",))
    silent = rules.keys() - {use.service for use in uses}
    found += Advice(notes=tuple(f"{name}: no resource samples in this time" for name in sorted(silent)))
    found += advise_network(network) + advise_storage(storage)
    items = sorted(found.items, key=lambda item: not item.applicable)
    told = "\n".join(item.model_dump_json(include={"id", "from_sizes", "to_sizes"}) for item in items)
    return Plan(
        plan=hashlib.sha256(told.encode()).hexdigest()[:12],
        items=tuple(items),
        notes=found.notes,
        currency=prices.currency if prices else "",
    )


def steps_of(plan: Plan, chosen: Sequence[str]) -> list[Step]:
    """What applying these items (all that can be, where none is named) asks of each service.

    ``ConfigError`` for an item that there is not, or that cannot be applied.
    """
    by_id = {item.id: item for item in plan.items}
    for name in chosen:
        if name not in by_id:
            known = ", ".join(by_id) or "none"
            raise ConfigError(f"no item {name!r} in this plan{closest(name, by_id)}; its items are {known}")
        if not by_id[name].applicable:
            raise ConfigError(f"{name} cannot be applied: {by_id[name].why_not}")
    wanted = [item for item in plan.items if item.applicable and (not chosen or item.id in chosen)]
    steps = []
    for service in dict.fromkeys(item.subject for item in wanted):
        its = tuple(item for item in wanted if item.subject == service)
        sizes = {
            name: value
            for item in its
            if item.to_sizes
            for name, value in item.to_sizes.model_dump(exclude_none=True).items()
        }
        steps.append(Step(service, its, its[0].from_sizes or Sizes(), Sizes(**sizes)))
    return steps
