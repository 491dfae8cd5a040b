"""Which level a search tries next, and when it has its answer; the whole of it against queues with a known answer."""

from typing import Any

import pytest

from bench.simulated_search import Queue, search
from services.validator.knee import find_knee
from services.validator.stress_search import Next, conclude, next_move
from shared.contracts.stress import StepVerdict, StressAnswer, StressMargin, StressSearch, StressStep


def step(level: float, verdict: StepVerdict, margin: float | None = None, **changes: Any) -> StressStep:
    guess = {"met": -3.0, "missed": 2.0, "critical": 4.0, "insufficient": 0.0, "invalid": 0.0}[verdict]
    told = StressMargin(
        system="queue",
        metric="response_time",
        statistic="p95",
        unit="ms",
        limit=100,
        value={"met": 50.0, "insufficient": 95.0}.get(verdict, 150.0),
        verdict=verdict,
        samples=1000,
        effective=500,
        margin=guess if margin is None else margin,
        error=0.3,
    )
    whole: dict[str, Any] = {"number": 1, "level": level, "begun_s": 0, "from_s": 4, "to_s": 20, "verdict": verdict}
    return StressStep(**{**whole, "margins": (told,), "achieved": level, "mean_ms": 20.0, **changes})


def made(*steps: StressStep, **changes: Any) -> StressSearch:
    return StressSearch(**{"unit": "rate", "start": 10.0, "level": 10.0, "steps": steps, **changes})


def test_it_begins_where_the_load_does_and_grows() -> None:
    assert next_move(made()) == Next(10.0)
    assert next_move(made(step(10, "met"))) == Next(20.0)
    assert next_move(made(step(10, "met"), step(20, "met"))) == Next(80.0), "nothing is near a limit"
    assert next_move(made(step(10, "met"), step(20, "met", -1.0))) == Next(40.0)
    assert next_move(made(step(10, "insufficient"))) == Next(12.0)
    few = step(10, "insufficient").margins[0].model_copy(update={"value": 20.0})
    assert next_move(made(step(10, "insufficient", margins=(few,)))) == Next(20.0), "too few samples are not too near"


def test_it_goes_down_when_the_first_step_is_broken() -> None:
    assert next_move(made(step(10, "critical"))) == Next(10.0), "once more, now that the target is warm"
    assert next_move(made(step(10, "critical"), step(10, "critical"))) == Next(2.5)
    answer = next_move(made(step(1, "missed"), step(1, "missed"), unit="users", start=1.0))
    assert isinstance(answer, StressAnswer)
    assert "broken even at 1 users" in answer.reason


def test_between_a_kept_and_a_broken_step_it_tries_what_is_still_possible() -> None:
    move = next_move(made(step(10, "met"), step(80, "critical")))
    assert isinstance(move, Next)
    assert 10 < move.level < 80
    assert move.error is not None


def test_it_ends_when_the_interval_is_narrow() -> None:
    margins = {60: -4.0, 90: -1.0, 96: -0.4, 104: 0.4, 110: 0.9, 150: 4.0}
    steps = [step(level, "met" if m < 0 else "missed", m) for level, m in margins.items()]
    steps += [step(98, "insufficient", -0.2), step(102, "insufficient", 0.2), step(100, "insufficient", 0.0)]
    answer = next_move(made(*steps, max_steps=20))
    assert isinstance(answer, StressAnswer)
    assert answer.found
    assert answer.level == pytest.approx(100, rel=0.03)
    assert answer.low is not None
    assert answer.high is not None
    assert answer.low < 100 < answer.high
    assert answer.highest_met == 96
    assert answer.lowest_broken == 104
    assert answer.broke is not None
    assert answer.broke.level == 104
    assert answer.throughput == pytest.approx(100, rel=0.05)


def test_the_limit_that_counts_may_be_the_critical_one() -> None:
    assert next_move(made(step(10, "met"), step(20, "missed", -0.5), limit="critical")) == Next(40.0)


def test_a_spoiled_step_is_tried_again_and_twice_spoiled_the_generators_are_the_limit() -> None:
    kept, spoiled = step(10, "met"), step(20, "invalid", margins=())
    assert next_move(made(kept, spoiled)) == Next(20.0)
    answer = next_move(made(kept, spoiled, spoiled))
    assert isinstance(answer, StressAnswer)
    assert not answer.found
    assert answer.reason == "the generators are the limit at 20/s: add workers"
    assert answer.lowest_broken is None, "a generator at fault is never the system's breaking point"


def test_a_system_that_keeps_everything_has_no_point_within_what_may_be_asked() -> None:
    answer = next_move(made(step(10, "met"), step(20, "met"), max_level=20.0))
    assert isinstance(answer, StressAnswer)
    assert (answer.found, answer.highest_met) == (False, 20.0)
    assert "nothing is broken at 20/s" in answer.reason


def test_levels_stay_within_the_most_that_may_be_asked() -> None:
    assert next_move(made(step(10, "met"), step(20, "met"), max_level=33.0)) == Next(33.0)


def test_steps_without_anything_to_judge_by_end_it() -> None:
    answer = next_move(made(step(10, "insufficient", margins=())))
    assert isinstance(answer, StressAnswer)
    assert "nothing to search by" in answer.reason


def test_a_lone_broken_step_that_all_close_by_speak_against_is_tried_again() -> None:
    move = next_move(made(step(40, "met"), step(80, "critical"), step(65, "met"), step(72, "met")))
    assert isinstance(move, Next)
    assert move.level == 80


def test_an_end_before_its_time_tells_what_is_known() -> None:
    answer = conclude(made(step(10, "met"), step(80, "critical")), "stopped")
    assert not answer.found
    assert answer.reason.startswith("stopped; the interval is still ±")
    assert (answer.highest_met, answer.lowest_broken) == (10, 80)


def test_users_are_whole() -> None:
    search = made(step(3, "met"), step(5, "critical"), unit="users", start=3.0)
    move = next_move(search)
    assert isinstance(move, Next)
    assert move.level == 4.0


@pytest.mark.parametrize(
    ("queue", "seed"),
    [
        (Queue(4, 50, 100, "p95", 20), 1),
        (Queue(1, 200, 60, "p95", 20), 2),
        (Queue(4, 50, 30, "mean", 20), 3),
        (Queue(1, 100, 100, "p90", 300), 4),
    ],
    ids=str,
)
def test_the_breaking_point_of_a_queue_is_found(queue: Queue, seed: int) -> None:
    found = search(queue, seed).search
    assert found is not None
    assert found.answer is not None
    assert found.answer.level == pytest.approx(queue.breaking_rate, rel=0.08)
    assert len(found.steps) <= 11
    assert found.answer.broke is not None
    assert found.answer.broke.margin.metric == "response_time"


@pytest.mark.parametrize("from_s", [5.0, 30.0, 100.0])
def test_a_standstill_of_the_target_in_one_step_does_not_ruin_the_answer(from_s: float) -> None:
    queue = Queue(4, 50, 100, "p95", 40)
    found = search(queue, 5, disturbed_s=(from_s, from_s + 4)).search
    assert found is not None
    assert found.answer is not None
    assert found.answer.level == pytest.approx(queue.breaking_rate, rel=0.12)


def test_the_knee_is_where_throughput_buys_the_least_waiting() -> None:
    """Of an M/M/1 queue Kleinrock's power ρ(1 − ρ) is greatest at half of its capacity."""
    levels = [10, 20, 40, 55, 70, 90]
    assert find_knee([(x, x, 1e3 / (100 - x)) for x in levels]) == pytest.approx(50, rel=0.1)
    assert find_knee([(x, x, 20.0) for x in levels]) is None, "it still rises at the highest"
    assert find_knee([(10, 10, 20.0), (20, 20, 21.0)]) is None
