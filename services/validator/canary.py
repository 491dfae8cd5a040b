"""Which runs are the same canary, what each asked for at a time, and which past windows compare with one of now. Pure.

Time is cut by the days of one time zone, whose days begin on a whole hour of UTC: the store keeps hours for long.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from services.validator.drift import Grain
from shared.contracts.run import Load, RunDesired

TAG = "canary"
HOUR = timedelta(hours=1)
SILENT = timedelta(days=1)
Asked = tuple[tuple[str, float], ...]
"""Scenario and rate (or users, of a closed load) of each load of a run."""


@dataclass(frozen=True, slots=True)
class CanaryRun:
    """A run with canary load; ``ended`` is None while it goes on."""

    desired: RunDesired
    started: datetime
    ended: datetime | None = None

    @property
    def run(self) -> str:
        return self.desired.run

    @property
    def name(self) -> str:
        """What is the same canary, over restarts: its tag ``canary``, else its scenarios."""
        named = self.desired.tags.get(TAG, "")
        return named or "+".join(sorted(load.scenario.name for load in self.desired.loads))

    def asked(self, span: "Span") -> Asked | None:
        """The load of a span; None where it did not run all the time, or not always with the same load."""
        begun = self.started + timedelta(seconds=self.desired.ramp_up_s)
        if span.start < begun or (self.ended is not None and self.ended < span.stop):
            return None
        since_s, until_s = ((moment - self.started).total_seconds() for moment in (span.start, span.stop))
        for pause in self.desired.pauses:
            if pause.from_s < until_s and (pause.to_s is None or pause.to_s > since_s):
                return None
        asked = []
        for load in self.desired.loads:
            later = (change.at_s for change in load.changes if since_s < change.at_s < until_s)
            levels = {_level(load, at_s) for at_s in (since_s, *later)}
            if len(levels) > 1:
                return None
            asked.append((load.scenario.name, levels.pop()))
        return tuple(sorted(asked))


def end_of(ended: datetime | None, said: datetime | None, now: datetime) -> datetime | None:
    """When a run ended; one of which nobody has said anything for a day (each second is usual) ended with that word."""
    if ended is None and said is not None and now - said > SILENT:
        return said
    return ended


def _level(load: Load, at_s: float) -> float:
    """What a load asks for from a second on: arrivals/s of an open one, users of a closed one."""
    rate, users = load.rate, load.users
    for change in load.changes:
        if change.at_s <= at_s:
            rate = rate if change.rate is None else change.rate
            users = users if change.users is None else change.users
    return float(users if rate is None else rate)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A whole hour or a whole day; ``day`` is that of the time zone."""

    start: datetime
    stop: datetime
    day: date
    grain: Grain

    @property
    def seconds(self) -> float:
        return (self.stop - self.start).total_seconds()


@dataclass(frozen=True, slots=True)
class Days:
    """The calendar of one time zone. Moments are UTC."""

    zone: tzinfo

    def of(self, moment: datetime) -> date:
        return moment.astimezone(self.zone).date()

    def day(self, day: date) -> Span:
        return Span(self._midnight(day), self._midnight(day + timedelta(days=1)), day, Grain.DAY)

    def hour(self, moment: datetime) -> Span:
        """The hour in which a moment lies."""
        start = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return Span(start, start + HOUR, self.of(start), Grain.HOUR)

    def before(self, span: Span, days: int) -> Iterator[Span]:
        """The same window of so many days before, the last one first; one that a clock change left out is missing."""
        local = span.start.astimezone(self.zone)
        for ago in range(1, days + 1):
            day = span.day - timedelta(days=ago)
            if span.grain is Grain.DAY:
                yield self.day(day)
                continue
            start = datetime.combine(day, local.time(), self.zone).astimezone(UTC)
            if start.astimezone(self.zone).time() == local.time():
                yield Span(start, start + HOUR, day, Grain.HOUR)

    def _midnight(self, day: date) -> datetime:
        """The first moment of a day."""
        return datetime.combine(day, time(), self.zone).astimezone(UTC)


def whole_hours(zone: tzinfo, year: int) -> bool:
    """True when the days of a zone begin on a whole hour of UTC all through a year."""
    offsets = (datetime(year, month, 1, tzinfo=zone).utcoffset() for month in range(1, 13))
    return all(offset is not None and not offset % HOUR for offset in offsets)


@dataclass(frozen=True, slots=True)
class Comparable:
    """A past window that a run of the same canary went through with the same load."""

    span: Span
    run: str


def compare_with(now: CanaryRun, span: Span, past: Iterable[Span], runs: Sequence[CanaryRun]) -> list[Comparable]:
    """For each past window the run that compares, of several the newest; none where ``now`` itself changed its load."""
    asked = now.asked(span)
    if asked is None:
        return []
    same = [run for run in sorted(runs, key=lambda one: one.started, reverse=True) if run.name == now.name]
    found = []
    for window in past:
        run = next((one for one in same if one.asked(window) == asked), None)
        if run is not None:
            found.append(Comparable(window, run.run))
    return found
