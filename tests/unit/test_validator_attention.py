"""Silences mark what is told and change nothing of it; an acknowledgement is told once, as an event of its episode."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from services.validator.attention import MOST_KEPT, Attention, covers
from shared.contracts.attention import Acknowledge, Silence
from shared.contracts.breach import Breach, BreachEvent, BreachStatus
from tests.unit.test_validator_judging import judge_of_a_run, play
from tests.unit.validator_frames import RUN, START


def silence(hours: float = 2, **fields: Any) -> Silence:
    made = {"id": "s1", "environment": "test", "reason": "moving", "by": "ada", **fields}
    return Silence(created_at=START, ends_at=START + timedelta(hours=hours), **made)


def acknowledge(breach: str, by: str = "ada", minutes: float = 1) -> Acknowledge:
    return Acknowledge(breach=breach, environment="test", by=by, at=START + timedelta(minutes=minutes), note="on it")


@pytest.fixture(scope="module")
def opened() -> Breach:
    return play(judge_of_a_run(), 14, lambda _: [900.0] * 10)[0][1]


@pytest.mark.parametrize(
    ("fields", "is_covered"),
    [
        ({}, True),
        ({"system": "autmatrix"}, True),
        ({"system": "autmatrix", "metric": "api_response_time", "run": RUN}, True),
        ({"system": "relaycore"}, False),
        ({"system": "autmatrix", "metric": "error_rate"}, False),
        ({"run": "another"}, False),
        ({"scenario": "story"}, False),
        ({"environment": "production"}, False),
    ],
)
def test_a_silence_covers_what_equals_every_matcher_that_is_given(
    opened: Breach, fields: dict[str, Any], is_covered: bool
) -> None:
    assert covers(silence(**fields), opened) is is_covered


def test_a_silence_ends_by_the_clock_or_by_a_later_word(opened: Breach) -> None:
    attention = Attention()
    attention.note_silence(silence())
    attention.note_silence(silence(hours=1, id="s2", system="autmatrix"))
    assert attention.silenced_by(opened, START) == ("s1", "s2")
    assert attention.silenced_by(opened, START + timedelta(hours=1)) == ("s1",)
    attention.note_silence(silence(hours=0))
    assert attention.silenced_by(opened, START) == ()


def test_an_acknowledgement_is_untold_until_an_event_tells_it(opened: Breach) -> None:
    judge, attention = judge_of_a_run(), Attention()
    opened = play(judge, 14, lambda _: [900.0] * 10)[0][1]
    attention.note_acknowledge(acknowledge(opened.breach))
    attention.note_acknowledge(acknowledge("another"))
    (said,) = attention.untold(judge.open_breaches())
    told = judge.acknowledge(said)
    assert told is not None
    assert (told.status, told.acknowledged and told.acknowledged.by) == (BreachStatus.UPDATED, "ada")
    assert BreachEvent.of(told, START).type == "io.tidegate.breach.acknowledged.v1"
    assert attention.untold(judge.open_breaches()) == []
    attention.note_acknowledge(acknowledge(opened.breach, by="earlier", minutes=0.5))
    assert attention.untold(judge.open_breaches()) == []
    attention.note_acknowledge(acknowledge(opened.breach, by="grace", minutes=2))
    assert [one.by for one in attention.untold(judge.open_breaches())] == ["grace"]


def test_every_later_event_says_who_has_taken_the_episode_on() -> None:
    judge = judge_of_a_run()
    events = play(judge, 14, lambda _: [900.0] * 10)
    told = judge.acknowledge(acknowledge(events[0][1].breach))
    assert told is not None
    assert told.revision == events[-1][1].revision + 1
    (ended,) = judge.end_run(judge.boards[RUN])
    assert ended.status is BreachStatus.RESOLVED
    assert (ended.revision, ended.acknowledged) == (told.revision + 1, told.acknowledged)
    assert BreachEvent.of(ended, START).type == "io.tidegate.breach.resolved.v1"


def test_what_is_over_or_unknown_cannot_be_acknowledged() -> None:
    judge = judge_of_a_run()
    assert judge.acknowledge(acknowledge("nobody-knows")) is None


def test_what_people_say_is_kept_within_bounds(opened: Breach) -> None:
    attention = Attention()
    for number in range(MOST_KEPT + 5):
        attention.note_silence(silence(id=f"s{number}"))
    assert len(attention.silenced_by(opened, START)) == MOST_KEPT


@pytest.mark.parametrize("breach", ["", "a.b", "a b", "*", "x" * 65])
def test_an_id_that_is_no_subject_token_is_refused(breach: str) -> None:
    with pytest.raises(ValidationError):
        acknowledge(breach)
