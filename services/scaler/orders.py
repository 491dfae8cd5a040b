"""What operators have asked: all that was heard, and the word that is in force. Pure.

An order is taken once: it stands in the audit chain with its position in the stream, and whoever takes over goes on
after that. What does not fit the limits is refused there and leaves the word before it in force.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from services.scaler.situation import Memory, Order
from shared.contracts.scaling import ScalingRecord
from shared.contracts.scaling_orders import ScalingOrder
from shared.contracts.scaling_rules import ServiceRules

KEPT = 100
"""Orders kept per service and subject; the stream keeps no more."""


@dataclass(frozen=True, slots=True)
class HeardOrder:
    """``position``: its sequence in the stream."""

    position: int
    order: ScalingOrder


class Orders:
    """Everything heard, by service and subject (``replicas``, ``sizes``)."""

    def __init__(self) -> None:
        self._heard: dict[tuple[str, str], dict[int, ScalingOrder]] = {}

    def add(self, subject: str, position: int, order: ScalingOrder) -> bool:
        """Take note; False for one delivered again."""
        heard = self._heard.setdefault((order.service, subject), {})
        if position in heard or any(one.id == order.id for one in heard.values()):
            return False
        heard[position] = order
        for old in sorted(heard)[:-KEPT]:
            del heard[old]
        return True

    def after(self, service: str, subject: str, position: int) -> list[HeardOrder]:
        """Those past a position, the oldest first."""
        heard = self._heard.get((service, subject), {})
        return [HeardOrder(at, heard[at]) for at in sorted(heard) if at > position]


@dataclass(frozen=True, slots=True)
class Standing:
    """The word in force, the position of the last order taken, and when an operator's last ``resume`` was."""

    order: Order | None = None
    heard: int = 0
    resumed_s: float | None = None

    def take(self, heard: HeardOrder, now_s: float) -> "Standing":
        """What holds after an order that was not refused. A ``resume`` counts from ``now_s``, by the clock of the one
        who says when a loop ended: that of the person's host may be another."""
        asked = heard.order
        if asked.kind == "resume":
            return Standing(None, heard.position, now_s)
        order = Order(
            id=asked.id,
            replicas=asked.replicas if asked.kind == "set" else None,
            until_s=asked.ends_at.timestamp(),
            by=asked.by,
            reason=asked.reason,
        )
        return replace(self, order=order, heard=heard.position)

    def refuse(self, heard: HeardOrder) -> "Standing":
        return replace(self, heard=heard.position)


def refusal(rules: ServiceRules, order: ScalingOrder, now: datetime) -> str:
    """Why an order is not taken, empty where it is."""
    if order.kind != "resume" and order.ends_at <= now:
        return f"it ended at {order.ends_at:%Y-%m-%d %H:%M:%S} UTC, before a scaler heard it"
    replicas = order.replicas
    if order.kind == "set" and replicas is not None and not rules.min <= replicas <= rules.max:
        bound = f"above the maximum of {rules.max}" if replicas > rules.max else f"below the minimum of {rules.min}"
        return f"{replicas} is {bound}; {order.service} may have {rules.min} to {rules.max} replicas"
    return ""


def standing_of(records: Iterable[ScalingRecord]) -> Standing:
    """What a chain tells: each decision carries what stood when it was made, and each order what came after."""
    standing = Standing()
    for record in records:
        if record.kind == "decision" and "memory" in record.inputs:
            memory = Memory.model_validate(record.inputs["memory"])
            standing = Standing(memory.order, memory.orders_heard, memory.resumed_s)
        elif record.kind == "order" and "order" in record.inputs:
            heard = HeardOrder(record.inputs["position"], ScalingOrder.model_validate(record.inputs["order"]))
            standing = standing.take(heard, record.at.timestamp()) if record.ok else standing.refuse(heard)
    return standing
