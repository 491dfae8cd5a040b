"""A breach opens once, escalates, is updated now and then, and is resolved once, after it was clean for a while."""

import pytest

from services.validator.lifecycle import CLEAN_US, UPDATE_US, Episode, Step, advance, close, open_episode
from services.validator.series import episode_id, series_token
from services.validator.verdict import Judgement, Verdict
from shared.contracts.breach import BreachStatus

SECOND = 1_000_000


def judgement(verdict: Verdict, value: float | None = 250.0) -> Judgement:
    return Judgement(verdict, value, 200.0, 500, 0.99999, "binomial")


MISSED, CRITICAL, MET = judgement(Verdict.MISSED), judgement(Verdict.CRITICAL, 800.0), judgement(Verdict.MET, 90.0)
UNSURE = judgement(Verdict.INSUFFICIENT, 190.0)


def opened(verdict: Judgement = MISSED) -> Episode:
    step = open_episode("b1", verdict, 0)
    assert step.status is BreachStatus.OPENED
    assert step.episode is not None
    return step.episode


def follow(episode: Episode, step: Step) -> Episode:
    assert step.episode is not None
    assert step.episode.breach == episode.breach
    return step.episode


def test_the_whole_story_of_an_episode() -> None:
    told = []
    episode = opened()
    for second, seen, recovery in [
        (1, MISSED, UNSURE),
        (2, MISSED, UNSURE),
        (3, CRITICAL, UNSURE),
        (4, CRITICAL, UNSURE),
        (8, CRITICAL, UNSURE),
        (9, CRITICAL, MET),
        (9.5, MISSED, UNSURE),
        (10, UNSURE, MET),
        (10.4, MET, MET),
        (10.5, MET, MET),
    ]:
        step = advance(episode, seen, recovery, int(second * SECOND))
        episode = follow(episode, step)
        if step.status:
            told.append((second, step.status.value, episode.revision))
    assert told == [(3, "escalated", 2), (8, "updated", 3), (9.5, "updated", 4), (10.5, "resolved", 5)]


def test_a_value_that_moves_notably_is_told_before_the_usual_time() -> None:
    episode = opened()
    assert advance(episode, judgement(Verdict.MISSED, 400.0), UNSURE, SECOND // 2).status is None
    assert advance(episode, judgement(Verdict.MISSED, 400.0), UNSURE, SECOND).status is BreachStatus.UPDATED
    assert advance(episode, judgement(Verdict.MISSED, 260.0), UNSURE, SECOND).status is None


def test_an_escalated_episode_is_not_told_less_severe() -> None:
    episode = opened(CRITICAL)
    step = advance(episode, MISSED, UNSURE, UPDATE_US)
    assert (follow(episode, step).level, step.status) == ("critical", BreachStatus.UPDATED)


@pytest.mark.parametrize("seen", [judgement(Verdict.INVALID, None), judgement(Verdict.INSUFFICIENT, None)])
def test_without_a_measurement_an_episode_stays_open_and_silent(seen: Judgement) -> None:
    step = advance(opened(), seen, UNSURE, 100 * SECOND)
    assert step.status is None
    assert step.episode is not None


@pytest.mark.parametrize("seen", [UNSURE, MET])
def test_a_value_back_near_its_target_is_told_until_the_recovery_is_confirmed(seen: Judgement) -> None:
    step = advance(opened(judgement(Verdict.MISSED, 434.0)), seen, UNSURE, SECOND)
    assert step.status is BreachStatus.UPDATED
    assert follow(opened(), step).told_value == seen.value


def test_a_pass_must_last_before_it_resolves() -> None:
    episode = follow(opened(), advance(opened(), MET, MET, 5 * SECOND))
    assert advance(episode, MET, MET, 5 * SECOND + CLEAN_US - 1).status is None
    assert advance(episode, MET, MET, 5 * SECOND + CLEAN_US).status is BreachStatus.RESOLVED


def test_the_end_of_a_run_resolves() -> None:
    step = close(opened())
    assert step.status is BreachStatus.RESOLVED
    assert step.episode is not None
    assert step.episode.revision == 2


def test_an_episode_has_the_same_id_whenever_it_is_derived_again() -> None:
    first = episode_id("local", "relaycore", "routing_latency", "run-1", 1_000)
    assert first == episode_id("local", "relaycore", "routing_latency", "run-1", 1_000)
    assert first != episode_id("local", "relaycore", "routing_latency", "run-1", 1_001)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("run-1",), "run-1"),
        (("run-1", "story", "send.it now"), "run-1--story--send_it_now"),
    ],
)
def test_a_series_is_one_subject_token(parts: tuple[str, ...], expected: str) -> None:
    assert series_token(*parts) == expected


def test_long_series_stay_apart() -> None:
    one, other = (series_token("r" * 90, "s" * 80, end) for end in ("a", "b"))
    assert one != other
    assert len(one) == len(other) == 120
