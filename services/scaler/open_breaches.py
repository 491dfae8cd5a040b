"""Which breach episodes are open, by the validator's last word per subject. Pure.

A message at or before the stream position last seen on its subject is a redelivery and changes nothing, and so does an
older revision of the same episode.
"""

from dataclasses import dataclass

from services.scaler.situation import OpenBreach
from shared.contracts.breach import Breach, BreachStatus, DriftMetric


@dataclass(frozen=True, slots=True)
class Told:
    """The last word on one subject; ``traceparent`` of the message that carried it, empty where there was none."""

    sequence: int
    breach: Breach
    traceparent: str = ""


class OpenBreaches:
    """The state of every episode, rebuilt from the last message per subject."""

    def __init__(self) -> None:
        self._told: dict[str, Told] = {}

    def tell(self, subject: str, sequence: int, breach: Breach, traceparent: str = "") -> bool:
        """Take one event; True when it changed what is known. A drift is worth knowing, and nothing to scale on."""
        if breach.metric in set(DriftMetric):
            return False
        known = self._told.get(subject)
        if known is not None:
            if sequence <= known.sequence:
                return False
            if known.breach.breach == breach.breach and breach.revision <= known.breach.revision:
                return False
            if known.breach.breach == breach.breach:
                traceparent = traceparent or known.traceparent
        self._told[subject] = Told(sequence, breach, traceparent)
        return True

    def open(self) -> tuple[OpenBreach, ...]:
        """Every open episode, in the order opened."""
        episodes = [told.breach for told in self._told.values() if told.breach.status is not BreachStatus.RESOLVED]
        return tuple(_open(breach) for breach in sorted(episodes, key=lambda one: (one.opened_at, one.breach)))

    def traceparent(self, breach: str) -> str:
        """The trace context an episode came with; empty when unknown."""
        return next((told.traceparent for told in self._told.values() if told.breach.breach == breach), "")


def _open(breach: Breach) -> OpenBreach:
    return OpenBreach(
        breach=breach.breach,
        run=breach.run,
        system=breach.system,
        service=breach.service,
        metric=breach.metric,
        level=breach.level,
        value=breach.value,
        limit=breach.limit,
        confidence=breach.confidence,
        slowest_hop=breach.slowest_hop,
        judged_s=breach.window.end.timestamp(),
    )
