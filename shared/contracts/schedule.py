"""When a benchmark applies: hours of the week in a time zone, less the times of maintenance.

Hours are those of the wall clock, also on the days on which it is changed. Which benchmark has which schedule, and
what is not judged for it, belongs to others.
"""

import re
from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from shared.contracts.base import Document
from shared.errors import WrongFieldError, closest

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MIN = 1_440
WEEK_MIN = 7 * DAY_MIN
_HOURS = re.compile(r"^([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)$")

Stretch = tuple[int, int]
"""First minute of the week (Monday 00:00 is 0) and the first after it."""


class Hours(Document):
    """``days``: ``mon-fri``, ``sat,sun``, ``daily``. ``hours``: ``08:00-20:00``; those that end before they begin end
    on the next day."""

    days: str = "daily"
    hours: str = "00:00-24:00"

    @field_validator("days")
    @classmethod
    def _days_known(cls, value: str) -> str:
        _numbers(value)
        return value

    @field_validator("hours")
    @classmethod
    def _hours_known(cls, value: str) -> str:
        begin, end = _minutes(value)
        if begin == end:
            raise ValueError(f"{value!r} is no time at all; for whole days leave hours out")
        return value

    @cached_property
    def stretches(self) -> tuple[Stretch, ...]:
        begin, end = _minutes(self.hours)
        length = end - begin if end > begin else end + DAY_MIN - begin
        return tuple(
            part
            for day in _numbers(self.days)
            for part in _within_week(day * DAY_MIN + begin, day * DAY_MIN + begin + length)
        )


class Period(Document):
    """Once, from one moment to another; one without a zone is in the schedule's."""

    begin: datetime = Field(alias="from")
    end: datetime = Field(alias="to")

    @model_validator(mode="after")
    def _ordered(self) -> "Period":
        if (self.begin.tzinfo is None) != (self.end.tzinfo is None):
            raise WrongFieldError("from and to must both have a zone, or neither", "to")
        if self.end <= self.begin:
            raise WrongFieldError(f"to {self.end.isoformat()} is not after from {self.begin.isoformat()}", "to")
        return self

    def within(self, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """Both moments with a zone."""
        begin, end = (at if at.tzinfo else at.replace(tzinfo=zone) for at in (self.begin, self.end))
        return begin, end


def _kind(value: Any) -> str:
    dated = isinstance(value, Period) or (
        isinstance(value, dict) and bool({"from", "to", "begin", "end"} & value.keys())
    )
    return "once" if dated else "weekly"


Maintenance = Annotated[
    Annotated[Hours, Tag("weekly")] | Annotated[Period, Tag("once")],
    Discriminator(_kind),
]


class Schedule(Document):
    """Without ``applies``: always. Nothing is judged during ``maintenance``."""

    time_zone: str = "UTC"
    applies: tuple[Hours, ...] | None = None
    maintenance: tuple[Maintenance, ...] = ()

    @field_validator("time_zone")
    @classmethod
    def _zone_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            near = closest(value, sorted(available_timezones()))
            raise ValueError(f"unknown time zone {value!r}{near}; write e.g. Europe/Berlin or UTC") from None
        return value

    @model_validator(mode="after")
    def _leaves_some_time(self) -> "Schedule":
        if self.applies is not None and not self.applies:
            raise WrongFieldError(
                "applies holds no hours, so nothing is ever judged; leave it out for always", "applies"
            )
        _refuse_overlap([hours.stretches for hours in self.applies or ()], "applies")
        weekly = [(at, one.stretches) for at, one in enumerate(self.maintenance) if isinstance(one, Hours)]
        _refuse_overlap([stretches for _, stretches in weekly], "maintenance", [at for at, _ in weekly])
        self._refuse_overlapping_periods()
        away = _minutes_of(stretch for _, stretches in weekly for stretch in stretches)
        if self._minutes <= away:
            raise WrongFieldError(
                "maintenance takes all the time that applies, so nothing is ever judged", "maintenance"
            )
        return self

    def covers(self, at: datetime) -> bool:
        """Whether there is judging at a moment (with zone)."""
        if self.applies is None and not self.maintenance:
            return True
        local = at.astimezone(self._zone)
        minute = local.weekday() * DAY_MIN + local.hour * 60 + local.minute
        if self.applies is not None and minute not in self._minutes:
            return False
        for one in self.maintenance:
            if isinstance(one, Hours):
                if any(begin <= minute < end for begin, end in one.stretches):
                    return False
            else:
                begin, end = one.within(self._zone)
                if begin <= at < end:
                    return False
        return True

    def covers_all(self, since: datetime, until: datetime) -> bool:
        """Whether there is judging at every minute of a time, of which no more than a week is looked at."""
        if self.applies is None and not self.maintenance:
            return True
        minutes = min(WEEK_MIN, int((until - since).total_seconds() // 60) + 1)
        return all(self.covers(since + timedelta(minutes=minute)) for minute in range(minutes)) and self.covers(until)

    @cached_property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @cached_property
    def _minutes(self) -> frozenset[int]:
        if self.applies is None:
            return frozenset(range(WEEK_MIN))
        return _minutes_of(stretch for hours in self.applies for stretch in hours.stretches)

    def _refuse_overlapping_periods(self) -> None:
        periods = [(*one.within(self._zone), at) for at, one in enumerate(self.maintenance) if isinstance(one, Period)]
        for earlier, later in zip(sorted(periods), sorted(periods)[1:], strict=False):
            if later[0] < earlier[1]:
                raise WrongFieldError(
                    f"from {later[0].isoformat()} lies within maintenance that lasts until {earlier[1].isoformat()}; "
                    "make one of the two",
                    *("maintenance", later[2], "from"),
                )


def _numbers(days: str) -> list[int]:
    if days == "daily":
        return list(range(7))
    found: list[int] = []
    for part in days.split(","):
        first, _, last = (end.strip() for end in part.partition("-"))
        for day in (first, last or first):
            if day not in DAYS:
                raise ValueError(
                    f"unknown day {day!r} in {days!r}; use {', '.join(DAYS)}, a span like mon-fri, or daily"
                )
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found += [day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)]
    twice = sorted({DAYS[day] for day in found if found.count(day) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands in {days!r} twice")
    return found


def _minutes(hours: str) -> tuple[int, int]:
    match = _HOURS.match(hours)
    if match:
        first, first_minutes, last, last_minutes = map(int, match.groups())
        begin, end = first * 60 + first_minutes, last * 60 + last_minutes
        if begin < DAY_MIN and end <= DAY_MIN:
            return begin, end
    raise ValueError(f"{hours!r} are no hours; write e.g. 08:00-20:00, up to 24:00")


def _within_week(begin: int, end: int) -> list[Stretch]:
    return [(begin, end)] if end <= WEEK_MIN else [(begin, WEEK_MIN), (0, end - WEEK_MIN)]


def _minutes_of(stretches: Any) -> frozenset[int]:
    return frozenset(minute for begin, end in stretches for minute in range(begin, end))


def _refuse_overlap(listed: list[tuple[Stretch, ...]], field: str, places: list[int] | None = None) -> None:
    taken: set[int] = set()
    for number, stretches in enumerate(listed):
        minutes = _minutes_of(stretches)
        if both := taken & minutes:
            day, minute = divmod(min(both), DAY_MIN)
            raise WrongFieldError(
                f"{DAYS[day]} {minute // 60:02d}:{minute % 60:02d} is in the hours before these already; "
                "let them follow each other",
                *(field, places[number] if places else number),
            )
        taken |= minutes
