"""When a benchmark applies: hours of the week by the wall clock of a zone, less maintenance."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.schedule import Schedule

MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
OFFICE = {"time_zone": "Europe/Berlin", "applies": [{"days": "mon-fri", "hours": "08:00-20:00"}]}


def schedule(**document: Any) -> Schedule:
    return Schedule.model_validate(document)


@pytest.mark.parametrize(
    ("document", "at", "applies"),
    [
        pytest.param({}, MONDAY, True, id="always"),
        pytest.param(OFFICE, MONDAY.replace(hour=7), True, id="eight in Berlin is seven in winter's UTC"),
        pytest.param(OFFICE, MONDAY.replace(hour=6, minute=59), False, id="a minute before"),
        pytest.param(OFFICE, MONDAY.replace(hour=19), False, id="the end is outside"),
        pytest.param(OFFICE, datetime(2026, 7, 6, 6, 0, tzinfo=UTC), True, id="and six in summer's"),
        pytest.param(OFFICE, datetime(2026, 12, 5, 12, tzinfo=UTC), False, id="a Saturday"),
        pytest.param({"applies": [{"hours": "22:00-06:00"}]}, MONDAY.replace(hour=3), True, id="over midnight"),
        pytest.param({"applies": [{"days": "sun", "hours": "22:00-06:00"}]}, MONDAY, True, id="over the week's end"),
        pytest.param({"applies": [{"days": "fri-mon"}]}, MONDAY, True, id="days around the week's end"),
        pytest.param({"applies": [{"days": "fri-mon"}]}, MONDAY + timedelta(days=1), False, id="and not the next"),
        pytest.param(
            {"maintenance": [{"days": "mon", "hours": "00:00-01:00"}]}, MONDAY, False, id="weekly maintenance"
        ),
        pytest.param(
            {"time_zone": "Asia/Tokyo", "maintenance": [{"from": "2026-11-30T08:00", "to": "2026-11-30T10:00"}]},
            MONDAY,
            False,
            id="maintenance once, in the schedule's zone",
        ),
        pytest.param(
            {"time_zone": "Asia/Tokyo", "maintenance": [{"from": "2026-11-30T08:00Z", "to": "2026-11-30T10:00Z"}]},
            MONDAY,
            True,
            id="or in its own",
        ),
    ],
)
def test_when_it_applies(document: dict[str, Any], at: datetime, applies: bool) -> None:
    assert schedule(**document).covers(at) is applies


def test_the_hour_that_comes_twice_counts_twice() -> None:
    """Europe/Berlin, 25 October 2026: 02:30 is at 00:30 and at 01:30 UTC."""
    early = schedule(time_zone="Europe/Berlin", applies=[{"days": "sun", "hours": "02:00-03:00"}])
    covered = [early.covers(datetime(2026, 10, 25, hour, 30, tzinfo=UTC)) for hour in range(4)]
    assert covered == [True, True, False, False]


@given(
    st.integers(0, 365 * 1440).map(lambda minutes: MONDAY + timedelta(minutes=minutes)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Chatham"]),
    st.sets(st.integers(0, 6), min_size=1),
    st.tuples(st.integers(0, 23), st.integers(0, 59)),
    st.integers(1, 1439),
)
@settings(max_examples=200, deadline=None)
def test_it_says_what_the_wall_clock_says(
    at: datetime, zone: str, days: set[int], begin: tuple[int, int], length_min: int
) -> None:
    names = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    first = begin[0] * 60 + begin[1]
    last = (first + length_min) % 1440
    hours = f"{begin[0]:02d}:{begin[1]:02d}-{last // 60:02d}:{last % 60:02d}"
    one = schedule(time_zone=zone, applies=[{"days": ",".join(names[day] for day in days), "hours": hours}])
    local = at.astimezone(ZoneInfo(zone))
    minute = local.hour * 60 + local.minute
    today = local.weekday() in days and first <= minute < first + length_min
    since_yesterday = (local.weekday() - 1) % 7 in days and minute + 1440 < first + length_min
    assert one.covers(at) is (today or since_yesterday)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        pytest.param({"time_zone": "Europe/Berlim"}, "did you mean 'Europe/Berlin'?", id="zone"),
        pytest.param({"applies": [{"days": "mon-fry"}]}, "unknown day 'fry' in 'mon-fry'", id="day"),
        pytest.param({"applies": [{"days": "mon-wed,tue"}]}, "tue stands in 'mon-wed,tue' twice", id="day twice"),
        pytest.param({"applies": [{"hours": "8-20"}]}, "'8-20' are no hours; write e.g. 08:00-20:00", id="hours"),
        pytest.param({"applies": [{"hours": "08:00-24:30"}]}, "are no hours", id="past midnight"),
        pytest.param({"applies": [{"hours": "08:00-08:00"}]}, "is no time at all", id="no hours at all"),
        pytest.param({"applies": []}, "nothing is ever judged; leave it out for always", id="empty"),
        pytest.param(
            {"applies": [{"days": "mon-fri", "hours": "08:00-20:00"}, {"days": "fri", "hours": "18:00-22:00"}]},
            "fri 18:00 is in the hours before these already",
            id="overlapping",
        ),
        pytest.param(
            {"applies": [{"days": "sat"}], "maintenance": [{"days": "sat,sun"}]},
            "maintenance takes all the time that applies",
            id="maintenance of all",
        ),
        pytest.param(
            {"maintenance": [{"from": "2026-01-02", "to": "2026-01-01"}]}, "is not after from", id="backwards"
        ),
        pytest.param(
            {
                "maintenance": [
                    {"from": "2026-01-01", "to": "2026-01-03"},
                    {"days": "mon"},
                    {"from": "2026-01-02", "to": "2026-01-04"},
                ]
            },
            "lies within maintenance that lasts until 2026-01-03",
            id="overlapping maintenance",
        ),
        pytest.param({"maintenance": [{"from": "2026-01-02"}]}, "Field required", id="without an end"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        schedule(**document)
    assert said in str(refused.value)


def test_a_run_may_lie_within_it_or_not() -> None:
    office = schedule(**OFFICE)
    nine = MONDAY.replace(hour=8)
    assert office.covers_all(nine, nine + timedelta(hours=2))
    assert not office.covers_all(nine, nine + timedelta(days=1))
    assert schedule().covers_all(nine, nine + timedelta(days=4000))
