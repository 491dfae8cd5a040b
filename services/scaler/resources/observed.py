"""What plans are made from: how much the replicas of a service used, and what that costs. Values only."""

from dataclasses import dataclass

from services.scaler.situation import Sizes


@dataclass(frozen=True, slots=True)
class Spread:
    """How one metric of all instances was spread over the samples."""

    samples: int
    mean: float
    p90: float
    p95: float
    max: float


@dataclass(frozen=True, slots=True)
class Use:
    """What the replicas of a service used over ``span_s``. ``sizes``: what each has now, as far as it is told.

    ``request_rate``: requests/s per replica. ``leaking``: instances of which a leak is suspected. ``full_ends``: how
    many ended or began anew while their memory was full.
    """

    service: str
    replicas: float
    span_s: float
    sizes: Sizes
    cpu_cores: Spread | None = None
    cpu_throttled: Spread | None = None
    memory_mb: Spread | None = None
    request_rate: Spread | None = None
    leaking: tuple[str, ...] = ()
    full_ends: int = 0


@dataclass(frozen=True, slots=True)
class Prices:
    """Per core-hour and GB-hour of what is promised; None where unknown."""

    core_hour: float | None = None
    gb_hour: float | None = None
    currency: str = ""
