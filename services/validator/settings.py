"""The validator's settings."""

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from services.validator.canary import whole_hours
from services.validator.drift import DriftRules
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """``day_zone``: time zone by whose days canary runs are summed up and compared. ``drift_*``: see ``DriftRules``."""

    day_zone: str = "UTC"
    drift_false_alarms_per_week: float = Field(default=0.5, gt=0, le=100)
    drift_change: float = Field(default=0.05, gt=0, le=10)
    drift_error_change: float = Field(default=0.005, gt=0, le=1)
    drift_days: int = Field(default=56, ge=7, le=365)
    drift_least_days: int = Field(default=7, ge=5, le=365)

    @field_validator("day_zone")
    @classmethod
    def _zone_known(cls, name: str) -> str:
        if name == "UTC":
            return name
        try:
            zone = ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError("no time zone; write e.g. UTC or Europe/Berlin") from error
        if not whole_hours(zone, datetime.now(UTC).year):
            raise ValueError("its days do not begin on a whole hour of UTC, by which the store keeps what is old")
        return name

    @property
    def zone(self) -> tzinfo:
        return UTC if self.day_zone == "UTC" else ZoneInfo(self.day_zone)

    @property
    def drift_rules(self) -> DriftRules:
        return DriftRules(
            false_alarms_per_week=self.drift_false_alarms_per_week,
            change=self.drift_change,
            error_change=self.drift_error_change,
            days=self.drift_days,
            least_days=self.drift_least_days,
        )
