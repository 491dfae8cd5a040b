"""One item of an optimization plan: what to change, why, what it is worth and what could go wrong. Pure."""

from typing import Literal

from pydantic import Field

from services.scaler.situation import Sizes
from shared.contracts.base import Message

Part = Literal["cpu", "memory", "network", "storage"]
Risk = Literal["low", "medium", "high"]


class Impact(Message):
    """What an item is estimated to change, each with how that is estimated; empty where nothing can be said.

    ``latency_ms``: of a request, below 0 is faster. ``cores``, ``memory_mb``: promised over all replicas, below 0 is
    cheaper. ``cost_per_hour``: of these, where prices are known.
    """

    latency: str = ""
    cost: str = ""
    headroom: str = ""
    latency_ms: float | None = None
    cores: float | None = None
    memory_mb: float | None = None
    cost_per_hour: float | None = None


class Item(Message):
    """``id`` is the same each time the same thing is advised. ``figures`` are what ``evidence`` tells, as numbers.

    ``from_sizes``, ``to_sizes``: of one replica, where sizes are what changes. ``applicable``: Tidegate can carry it
    out; otherwise ``why_not`` says who can, or what forbids it.
    """

    id: str
    part: Part
    subject: str
    title: str
    evidence: tuple[str, ...]
    figures: dict[str, float] = Field(default_factory=dict)
    impact: Impact = Impact()
    risk: Risk = "low"
    risk_reason: str = ""
    applicable: bool = False
    why_not: str = ""
    from_sizes: Sizes | None = None
    to_sizes: Sizes | None = None


class Advice(Message):
    """Items of one part for one subject, and what was left out and why (too little data, too small a change)."""

    items: tuple[Item, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: "Advice") -> "Advice":
        return Advice(items=self.items + other.items, notes=self.notes + other.notes)
