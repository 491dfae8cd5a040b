"""How carefully a service is moved, as people write it under ``tuning:`` in ``config/scaling.yaml``."""

from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.base import Document
from shared.contracts.units import Duration, TimeLimit

LONGEST_WINDOW_S = 60.0
"""Samples are looked at for a minute and a half, so a longer window would never be full."""
Window = Annotated[TimeLimit, Field(le=LONGEST_WINDOW_S)]


class Stabilization(Document):
    """A move up takes the lowest, a move down the highest count wanted within the window."""

    up: Duration = 0.0
    down: Duration = 300.0


class RateLimit(Document):
    """Upwards at most the larger of both within ``per``."""

    percent: float = Field(default=100.0, gt=0)
    replicas: int = Field(default=4, ge=1)
    per: Duration = 15.0


Remedy = Literal["hold", "rollback", "escalate"]
"""What follows a change that did not help: it stays, it is undone, or nothing more is tried and people are told."""


class Effectiveness(Document):
    """After the replicas are ready and ``settle`` has passed, the driving metric over ``window`` against before.

    ``min_change``: relative change below which nothing is said to have happened. ``max_errors``: a share of failed
    requests that grew by more makes any change worse. ``on_no_effect``, ``on_worse``: what follows. ``hold_after``: so
    many ineffective scale-ups in a row for one cause end its loop with an escalation. ``ready_within``: replicas not
    ready by then count as failed.
    """

    settle: Duration = 2.0
    window: Window = 10.0
    min_change: float = Field(default=0.1, gt=0, lt=1)
    max_errors: float = Field(default=0.02, gt=0, lt=1)
    on_no_effect: Remedy = "hold"
    on_worse: Remedy = "rollback"
    hold_after: int = Field(default=2, ge=1)
    ready_within: TimeLimit = 60.0


class Tuning(Document):
    """How carefully to move; the same for all services unless one says otherwise.

    ``window``, ``freshness``: span a reading is averaged over, and the age at which an instance counts as silent.
    ``max_factor``: largest factor one latency or queue reading may ask for. ``max_unhealthy``: share of unhealthy
    replicas from which nothing moves.
    """

    tolerance: float = Field(default=0.1, ge=0, lt=1)
    cooldown: Duration = 10.0
    window: Window = 10.0
    freshness: TimeLimit = 5.0
    max_factor: float = Field(default=2.0, gt=1)
    max_unhealthy: float = Field(default=0.34, gt=0, le=1)
    min_confidence: float = Field(default=0.3, ge=0, le=1)
    stabilization: Stabilization = Stabilization()
    rate: RateLimit = RateLimit()
    effectiveness: Effectiveness = Effectiveness()
