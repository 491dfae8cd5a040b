"""What a plan for one service is made from: its usage, and what is known of how its replicas ended. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise

from services.scaler.resources.usage import ServiceUsage, Summary
from services.scaler.situation import Sizes
from shared.store.figures import MemoryPoint

FULL = 0.95
"""Share of a limit from which on it was reached."""
GONE = timedelta(minutes=5)
"""An instance silent for so long has ended."""


@dataclass(frozen=True, slots=True)
class Use:
    """``span_s``: what the usage covers. ``leaking``: instances of which a leak is suspected. ``full_ends``: how many
    ended or began anew while their memory was full. ``told``: whether its target tells sizes; those that samples tell
    cannot be changed."""

    of: ServiceUsage
    span_s: float
    leaking: tuple[str, ...] = ()
    full_ends: int = 0
    told: bool = True

    @property
    def service(self) -> str:
        return self.of.service

    @property
    def replicas(self) -> float:
        return self.of.replicas

    @property
    def sizes(self) -> Sizes:
        """Of one replica now, as far as they are told."""
        return self.of.sizes

    @property
    def cpu_cores(self) -> Summary | None:
        """Cores in use. A share of the limit alone is not enough: the limit may have been another then."""
        return self.of.replica.get("cpu_cores")

    @property
    def cpu_throttled(self) -> Summary | None:
        return self.of.replica.get("cpu_throttled")

    @property
    def memory_mb(self) -> Summary | None:
        return self.of.replica.get("memory_usage")

    @property
    def request_rate(self) -> Summary | None:
        """Requests/s per replica."""
        return self.of.replica.get("request_rate")


def count_full_ends(points: Iterable[MemoryPoint], until: datetime) -> int:
    """How often an instance ended or began anew with its memory full; ``points`` by instance, in order of time."""
    count = 0
    for _, its in groupby(points, key=lambda point: (point.service, point.instance)):
        life = list(its)
        count += sum(
            _full(one) and (next_.began or next_.memory_mb < one.memory_mb / 2) for one, next_ in pairwise(life)
        )
        count += _full(life[-1]) and _ended(life, until)
    return count


def _full(point: MemoryPoint) -> bool:
    return point.memory_ratio is not None and point.memory_ratio >= FULL


def _ended(life: Sequence[MemoryPoint], until: datetime) -> bool:
    return until - life[-1].at > GONE
