"""What operators have asked: all that was heard. Pure."""

from dataclasses import dataclass

from shared.contracts.scaling_orders import ScalingOrder

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
