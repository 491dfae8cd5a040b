"""What operators ask of the scaler, on the stream ORDERS: ``order.<service>.<subject>``, each with who asked and why.

``order.<service>.replicas`` carries ``set``, ``pause`` and ``resume``: the last word holds, until ``ends_at``.
``order.<service>.sizes`` carries ``apply``: carry out one part of an optimization plan.
"""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field, model_validator

from shared.contracts.base import Instant, Message, Name
from shared.contracts.scaling import Sizes

LONGEST = timedelta(days=30)
"""No order holds for longer; ORDERS keeps it a day more, so that whoever takes over hears it."""


class ScalingOrder(Message):
    """``id`` is unique, so that an order heard twice is carried out once.

    ``set`` needs ``replicas`` and ``expires_at``; ``pause`` holds the service as it is, until ``expires_at`` or else
    for ``LONGEST``; ``resume`` ends both. ``apply`` names the ``plan`` and its ``items`` and gives each replica ``sizes``,
    unless ``expires_at`` passes before it may begin, or replicas no longer have the ``from_sizes`` it was planned from.
    """

    id: str = Field(min_length=1, max_length=64)
    environment: str
    service: Name
    kind: Literal["set", "pause", "resume", "apply"]
    replicas: int | None = Field(default=None, ge=1)
    expires_at: Instant | None = None
    plan: str = ""
    items: tuple[str, ...] = ()
    from_sizes: Sizes | None = None
    sizes: Sizes | None = None
    by: str
    reason: str
    at: Instant

    @property
    def ends_at(self) -> datetime:
        """When it is over by itself."""
        return self.expires_at or self.at + LONGEST

    @model_validator(mode="after")
    def _whole(self) -> "ScalingOrder":
        if self.kind == "set" and (self.replicas is None or self.expires_at is None):
            raise ValueError("set needs replicas and expires_at")
        if self.kind == "apply" and not (self.plan and self.sizes and self.expires_at):
            raise ValueError("apply needs plan, sizes and expires_at")
        if self.ends_at - self.at > LONGEST:
            raise ValueError(f"expires_at is more than {LONGEST.days} days after at")
        return self
