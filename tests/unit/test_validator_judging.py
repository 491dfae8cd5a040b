"""The judge over simulated runs: opens soon after a real step, never for one slow request, and resolves once."""

import random
from collections.abc import Callable
from datetime import timedelta

import pytest

from services.validator.judging import Judge
from shared.contracts.benchmarks import Benchmarks
from shared.contracts.breach import Breach, BreachStatus
from shared.contracts.resource import ResourceSample
from shared.contracts.run import Phase
from tests.unit.validator_frames import START, at_us, cell, desired, frame, state

BENCHMARKS = Benchmarks.model_validate(
    {
        "systems": {
            "autmatrix": {
                "service": "autmatrix-backend",
                "name": "AutoMatrix",
                "benchmarks": [
                    {"metric": "api_response_time", "target": 200, "critical": 500, "unit": "ms"}
                    | {"better": "lower", "source": "response_time"},
                    {"metric": "error_rate", "target": 0.01, "critical": 0.05, "unit": "ratio"}
                    | {"better": "lower", "source": "error_rate"},
                    {"metric": "cpu_usage", "target": 0.8, "critical": 0.95, "unit": "ratio"}
                    | {"better": "lower", "source": "resource"},
                ],
            }
        }
    }
)
RATE = 50
FRAME_S = 0.2


def judge_of_a_run() -> Judge:
    judge = Judge("test", BENCHMARKS)
    judge.settle_joining()
    judge.board("run-of-tests").note_desired(desired())
    judge.board("run-of-tests").note_state(state(0))
    return judge


def play(
    judge: Judge,
    until_s: float,
    times_ms: Callable[[float], list[float]],
    *,
    stuck: Callable[[float], list[float]] = lambda _: [],
    failed: Callable[[float], int] = lambda _: 0,
    at_fault: Callable[[float], bool] = lambda _: False,
    cpu: Callable[[float], float] = lambda _: 0.5,
) -> list[tuple[float, Breach]]:
    """A worker's frames each 0.2 s and a sample a second, judged as they come; events with when they were told."""
    told: list[tuple[float, Breach]] = []
    seq = 0
    while (now_s := (seq + 1) * FRAME_S) <= until_s + 1e-9:
        seq += 1
        judge.board("run-of-tests").merge(
            frame(
                seq,
                now_s,
                [cell(int(now_s - 0.01), times_ms(now_s), failed=failed(now_s))],
                stuck_ms=stuck(now_s),
                at_fault=at_fault(now_s),
            ),
            at_us(now_s),
        )
        if abs(now_s - round(now_s)) < 1e-9:
            judge.resources.add(
                ResourceSample(
                    service="autmatrix-backend",
                    system="autmatrix",
                    environment="test",
                    instance="1",
                    at=START + timedelta(seconds=now_s),
                    values={"cpu_usage": cpu(now_s)},
                )
            )
        told.extend((now_s, breach) for breach in judge.tick(at_us(now_s)))
    return told


def around(rng: random.Random, median_ms: Callable[[float], float]) -> Callable[[float], list[float]]:
    """Lognormal times (σ 0.5) about a median, ``RATE`` a second."""
    return lambda now_s: [median_ms(now_s) * rng.lognormvariate(0, 0.5) for _ in range(round(RATE * FRAME_S))]


@pytest.mark.parametrize("seed", range(3))
def test_a_real_step_opens_within_seconds_and_its_end_resolves(seed: int) -> None:
    # p95 of the lognormal is 2.28 times its median: 160 ms before, 320 ms during the step.
    times = around(random.Random(seed), lambda now_s: 140 if 20 < now_s <= 35 else 70)
    told = play(judge_of_a_run(), 60, times)
    statuses = [breach.status for _, breach in told]
    assert statuses[0] is BreachStatus.OPENED
    assert statuses[-1] is BreachStatus.RESOLVED
    assert statuses.count(BreachStatus.OPENED) == statuses.count(BreachStatus.RESOLVED) == 1
    assert 20 < told[0][0] < 25
    assert 35 < told[-1][0] < 46
    assert {breach.breach for _, breach in told} == {told[0][1].breach}
    assert [breach.revision for _, breach in told] == list(range(1, len(told) + 1))


def test_what_an_opened_breach_tells() -> None:
    judge = judge_of_a_run()
    times = around(random.Random(1), lambda now_s: 1500 if now_s > 10 else 50)
    ((when, breach), *_) = play(judge, 14, times)
    assert when < 12
    assert (breach.system, breach.service, breach.metric) == ("autmatrix", "autmatrix-backend", "api_response_time")
    assert (breach.level, breach.limit, breach.target, breach.critical) == ("critical", 500, 200, 500)
    assert breach.value > 500
    assert breach.confidence > 1 - 1e-4
    assert breach.samples >= 59
    assert breach.exemplars[0].recorded
    assert "create" in breach.recommendation
    assert breach.opened_at == breach.window.end
    assert breach.window.start < breach.window.end


def test_a_single_slow_request_never_opens() -> None:
    slow = around(random.Random(2), lambda _: 50)
    told = play(judge_of_a_run(), 30, lambda now_s: [*slow(now_s), *([25_000.0] if abs(now_s - 15) < 0.01 else [])])
    assert told == []


def test_a_hang_opens_before_anything_returns() -> None:
    good = around(random.Random(3), lambda _: 50)
    told = play(
        judge_of_a_run(),
        20,
        lambda now_s: good(now_s) if now_s <= 10 else [],
        stuck=lambda now_s: [(now_s - 10) * 1000] * 20 if now_s > 10 else [],
    )
    when, breach = told[0]
    # The critical limit of 0.5 s is passed at 10.5 s.
    assert 10.5 < when <= 12.5
    assert breach.level == "critical"
    assert "20 requests unanswered" in breach.note
    assert "20 requests wait unanswered" in breach.recommendation
    assert all(breach.status is not BreachStatus.RESOLVED for _, breach in told)


def test_failures_open_a_breach_of_the_error_rate() -> None:
    told = play(
        judge_of_a_run(), 16, around(random.Random(4), lambda _: 50), failed=lambda now_s: 5 if now_s > 10 else 0
    )
    assert told[0][1].metric == "error_rate"
    assert told[0][0] < 12
    assert "kind status" in told[0][1].recommendation


def test_a_resource_over_its_target_opens_and_resolves() -> None:
    rng = random.Random(5)
    told = play(
        judge_of_a_run(),
        60,
        around(rng, lambda _: 50),
        cpu=lambda now_s: (0.88 if 25 < now_s <= 45 else 0.4) + rng.uniform(-0.02, 0.02),
    )
    assert [breach.metric for _, breach in told] == ["cpu_usage"] * len(told)
    assert [told[0][1].status, told[-1][1].status] == [BreachStatus.OPENED, BreachStatus.RESOLVED]
    assert told[0][0] <= 25 + 13
    assert 46 < told[-1][0] <= 51
    assert told[0][1].exemplars, "requests that suffered meanwhile"


def test_a_generator_at_fault_opens_nothing() -> None:
    told = play(
        judge_of_a_run(), 20, around(random.Random(6), lambda _: 900), at_fault=lambda now_s: int(now_s) % 5 == 0
    )
    assert told == []


def test_the_end_of_a_run_resolves_what_is_open_and_says_so() -> None:
    judge = judge_of_a_run()
    play(judge, 14, around(random.Random(7), lambda _: 900))
    board = judge.board("run-of-tests")
    board.note_state(state(15, Phase.STOPPED))
    (resolved,) = judge.end_run(board)
    assert resolved.status is BreachStatus.RESOLVED
    assert resolved.resolved_at == state(15).at
    assert resolved.note == "the run ended (stopped) while the breach was open"
    assert judge.end_run(board) == []
    assert judge.tick(at_us(16)) == []


def test_an_episode_keeps_the_advice_and_evidence_of_its_worst_moment() -> None:
    times = around(random.Random(13), lambda now_s: 900 if 10 < now_s <= 14 else 600 if 14 < now_s <= 20 else 40)
    told = [breach for _, breach in play(judge_of_a_run(), 40, times)]
    assert told[-1].status is BreachStatus.RESOLVED
    worst = max(told, key=lambda breach: breach.value)
    assert [breach.worst for breach in told] == [max(b.value for b in told[: n + 1]) for n in range(len(told))]
    assert told[-1].value < 200 < worst.value == told[-1].worst
    assert worst.exemplars
    assert (told[-1].exemplars, told[-1].recommendation) == (worst.exemplars, worst.recommendation)

    restarted = judge_of_a_run()
    restarted.restore(told[-2], at_us(14))
    again = [breach for _, breach in play(restarted, 40, around(random.Random(14), lambda _: 40))]
    assert (again[-1].worst, again[-1].recommendation) == (worst.worst, worst.recommendation)


def test_what_was_judged_but_never_told_is_forgotten_when_the_told_is_taken_up() -> None:
    judge = judge_of_a_run()
    assert play(judge, 14, around(random.Random(15), lambda _: 900))
    judge.forget_episodes()
    board = judge.board("run-of-tests")
    assert (board.episodes, board.breaches, board.floors_s) == ({}, {}, {})


def test_a_restarted_judge_goes_on_with_the_same_episode() -> None:
    first = judge_of_a_run()
    slow = around(random.Random(8), lambda _: 900)
    told = play(first, 14, slow)
    second = judge_of_a_run()
    second.restore(told[-1][1], at_us(14))
    again = play(second, 40, around(random.Random(9), lambda now_s: 900 if now_s < 14 else 50))
    assert {breach.breach for _, breach in again} == {told[0][1].breach}
    assert again[0][1].revision == told[-1][1].revision + 1
    assert again[-1][1].status is BreachStatus.RESOLVED


def test_a_resolved_breach_does_not_open_again_from_seconds_it_has_seen() -> None:
    times = around(random.Random(10), lambda now_s: 2000 if 10 < now_s <= 14 else 40)
    told = play(judge_of_a_run(), 30, times)
    assert [breach.status for _, breach in told].count(BreachStatus.OPENED) == 1
    assert told[-1][1].status is BreachStatus.RESOLVED
    assert told[-1][0] < 14 + 10, "before the bad seconds have left the main window"


def late_frames(
    judge: Judge, times_ms: Callable[[float], list[float]], begin_s: float, end_s: float, now_s: float
) -> None:
    """What a second worker measured in that time, all of it merged at ``now_s``."""
    seq = 0
    while begin_s + seq * FRAME_S < end_s:
        seq += 1
        at_s = begin_s + seq * FRAME_S
        judge.board("run-of-tests").merge(
            frame(seq, at_s, [cell(int(at_s - 0.01), times_ms(at_s))], worker="late", final=at_s >= end_s), at_us(now_s)
        )


def test_a_breach_that_late_frames_refute_is_resolved_with_a_note_under_its_id() -> None:
    judge = judge_of_a_run()
    slow = around(random.Random(20), lambda now_s: 160 if 20 < now_s <= 23 else 75)
    told = play(judge, 23.6, slow)
    (opened,) = {breach.breach for _, breach in told}
    late_frames(judge, lambda _: [20.0] * 200, 10, 23.4, 23.8)
    (refuted,) = judge.tick(at_us(23.9))
    assert (refuted.breach, refuted.status) == (opened, BreachStatus.RESOLVED)
    assert refuted.note.startswith("what came late refutes it")
    assert refuted.revision == told[-1][1].revision + 1
    assert judge.tick(at_us(24.1)) == []


def test_a_breach_that_late_frames_leave_standing_goes_on() -> None:
    judge = judge_of_a_run()
    told = play(judge, 24, around(random.Random(21), lambda now_s: 400 if now_s > 20 else 75))
    late_frames(judge, lambda _: [60.0] * 3, 15, 23.8, 24.1)
    assert all(breach.status is not BreachStatus.RESOLVED for breach in judge.tick(at_us(24.2)))
    assert {breach.breach for _, breach in told} == {
        episode.breach for episode in judge.board("run-of-tests").episodes.values()
    }


def test_what_late_frames_show_to_have_been_broken_is_told_with_its_time() -> None:
    judge = judge_of_a_run()
    assert play(judge, 40, around(random.Random(22), lambda _: 60)) == []
    late_frames(judge, lambda _: [900.0] * 60, 20, 26, 40.1)
    told = judge.tick(at_us(40.2))
    assert [breach.status for breach in told][:1] == [BreachStatus.OPENED]
    assert told[-1].status is BreachStatus.RESOLVED
    assert len({breach.breach for breach in told}) == 1
    opened = (told[0].opened_at - START).total_seconds()
    resolved = told[-1].resolved_at
    assert 20 < opened <= 23
    assert resolved is not None
    assert 26 < (resolved - START).total_seconds() <= 32
    assert judge.tick(at_us(40.4)) == []


def test_what_comes_later_than_is_allowed_changes_nothing() -> None:
    judge = judge_of_a_run()
    play(judge, 200, around(random.Random(23), lambda _: 60))
    late_frames(judge, lambda _: [900.0] * 60, 20, 26, 200.1)
    assert judge.tick(at_us(200.2)) == []


def test_a_hang_is_not_refuted_by_good_answers_that_come_late() -> None:
    judge = judge_of_a_run()
    good = around(random.Random(24), lambda _: 50)
    told = play(
        judge,
        11.6,
        lambda now_s: good(now_s) if now_s <= 10 else [],
        stuck=lambda now_s: [(now_s - 10) * 1000] * 20 if now_s > 10 else [],
    )
    assert told[0][1].status is BreachStatus.OPENED
    late_frames(judge, lambda _: [20.0] * 5, 5, 9, 11.7)
    assert all(breach.status is not BreachStatus.RESOLVED for breach in judge.tick(at_us(11.8)))


def test_one_bad_second_breaks_nothing() -> None:
    good = around(random.Random(25), lambda _: 50)
    assert play(judge_of_a_run(), 30, lambda now_s: [900.0] * 10 if 15 <= now_s - 0.05 < 16 else good(now_s)) == []
