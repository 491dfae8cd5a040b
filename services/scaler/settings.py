"""What the scaler reads from the environment, once."""

import os
import secrets
import socket

from pydantic import Field, HttpUrl, field_validator

from services.scaler.history import GAP_S
from shared.contracts.scaling_targets import ScalingTarget
from shared.settings import ServiceSettings


def _scaler_id() -> str:
    return f"{socket.gethostname().lower().replace('.', '-')}-{os.getpid()}-{secrets.token_hex(2)}"


class ScalerSettings(ServiceSettings):
    """``platform_url``: the supervisor that owns the replicas; without it decisions are recorded and none is acted on.
    ``workers_url``: the keeper of an embedded stack, which owns the generator workers.

    ``scaler_target``: where replicas run, as ``target:`` of the rules in JSON, for services whose rules name none.
    ``scaler_tick_s``: how often each service is looked at when nothing wakes it, shorter than the gap that ends
    every "has held since". ``scaler_poll_s``: how often while replicas are on their way.
    ``scaler_reason_interval_s``: least time between two records that nothing moves. ``scaler_repeat_s``: after so long
    it is recorded again although nothing is new, before the stream has forgotten the chain and a second one would begin
    at 1.
    """

    platform_url: HttpUrl | None = None
    scaler_target: ScalingTarget | None = None
    workers_url: HttpUrl | None = None
    scaler_id: str = Field(default_factory=_scaler_id, pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    scaler_tick_s: float = Field(default=1.0, gt=0, lt=GAP_S)
    scaler_poll_s: float = Field(default=0.25, gt=0, lt=GAP_S)
    scaler_reason_interval_s: float = Field(default=5.0, ge=0)
    scaler_repeat_s: float = Field(default=86_400.0, gt=0)
    scaler_lease_s: float = Field(default=1.0, gt=0, le=1.0)
    scaler_target_timeout_s: float = Field(default=2.0, gt=0, le=30)

    @field_validator("platform_url", "workers_url", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None
