"""A suite as people write it in ``config/suites/*.yaml``: several scenarios with their load, in turn or together."""

from typing import Literal

from pydantic import Field, model_validator

from shared.contracts.base import Document, Name
from shared.contracts.units import Duration

LEAST_USERS = 1
LEAST_DURATION_S = 5.0


class SuiteRun(Document):
    """One scenario by name or path; what is left out is the scenario's own.

    ``insufficient_ok``: a run that only prepares may be too short for a verdict without spoiling the suite's.
    """

    scenario: str = Field(min_length=1)
    users: int | None = Field(default=None, ge=1, le=100_000)
    duration: Duration | None = None
    ramp_up: Duration | None = None
    insufficient_ok: bool = False

    @model_validator(mode="after")
    def _ramp_within(self) -> "SuiteRun":
        if self.duration is not None and (self.ramp_up or 0.0) > self.duration:
            raise ValueError(f"ramp_up of {self.ramp_up:g} s is longer than the duration of {self.duration:g} s")
        return self


class Suite(Document):
    """``in_turn``: one run after the other, each with its own report. ``together``: one run with all the loads."""

    name: Name
    title: str = ""
    order: Literal["in_turn", "together"] = "in_turn"
    runs: list[SuiteRun] = Field(min_length=1)


def scale_users(users: int, scale: float) -> int:
    """Users of a smaller or larger copy of a load: rounded, at least one."""
    return max(LEAST_USERS, round(users * scale))


def scale_duration_s(duration_s: float, scale: float) -> float:
    """Duration of a smaller or larger copy: at least five seconds, unless the original was shorter."""
    return max(min(LEAST_DURATION_S, duration_s), duration_s * scale)
