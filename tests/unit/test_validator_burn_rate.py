"""Burn rates: both windows, exactly tested; the store's steps and the stream joined once; breaches of their own."""

import random
from bisect import bisect_left
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.validator.budgets import STREAM_S, BudgetKey
from services.validator.burn_rate import Budget, Spending, Spent, judge_burning
from services.validator.judging import Judge
from services.validator.verdict import Verdict
from shared.contracts.benchmarks import Benchmark, Benchmarks
from shared.contracts.breach import Breach
from tests.unit.test_validator_judging import play
from tests.unit.validator_frames import START_S, at_us, cell, desired, frame, state

DAY_S = 86_400
ERRORS = {"metric": "error_rate", "target": "1 %", "critical": "50 %", "source": "error_rate", "objective": "99.5 %"}


def benchmark(**changes: Any) -> Benchmark:
    return Benchmark.model_validate(ERRORS | changes)


def budget_of(each_s: list[tuple[int, int]], unknown_before_s: int = 0) -> Budget:
    """By second (requests, bad); a window that begins before ``unknown_before_s`` is not known."""
    requests = [0, *accumulate(one[0] for one in each_s)]
    bad = [0, *accumulate(one[1] for one in each_s)]

    def spent(first_s: int) -> Spent | None:
        if first_s < unknown_before_s:
            return None
        return Spent(requests[-1] - requests[first_s], bad[-1] - bad[first_s])

    return Budget(0, len(each_s) - 1, spent)


def verdict(each_s: list[tuple[int, int]], **changes: Any) -> tuple[Verdict, float]:
    burning = judge_burning(benchmark(**changes), budget_of(each_s))
    assert burning is not None
    return burning.judgement.verdict, burning.pair.long


def drawn(rng: random.Random, seconds: int, rate: int, bad_share: float) -> list[tuple[int, int]]:
    return [(rate, sum(rng.random() < bad_share for _ in range(rate))) for _ in range(seconds)]


GOOD, HALF_BAD = (20, 0), (20, 10)


@pytest.mark.parametrize(
    ("each_s", "expected"),
    [
        pytest.param([GOOD] * 7200, (Verdict.MET, 60), id="nothing bad"),
        pytest.param([(20, 20)] * 6, (Verdict.CRITICAL, 60), id="all bad from the start: the short pair"),
        pytest.param([GOOD] * 3600 + [HALF_BAD] * 15, (Verdict.CRITICAL, 60), id="bad now: the short pair"),
        pytest.param([GOOD] * 3000 + [HALF_BAD] * 590 + [GOOD] * 10, (Verdict.CRITICAL, 3600), id="bad for long"),
        pytest.param([HALF_BAD] * 590 + [GOOD] * 3010, (Verdict.MET, 60), id="bad long ago: no longer"),
        pytest.param([(20, 1), *[GOOD] * 4] * (DAY_S // 5), (Verdict.MISSED, 3 * DAY_S), id="twice too fast: a ticket"),
    ],
)
def test_both_windows_must_burn(each_s: list[tuple[int, int]], expected: tuple[Verdict, float]) -> None:
    found, long = verdict(each_s)
    if found is Verdict.INSUFFICIENT:
        found = Verdict.MET  # too few in a short window to confirm, yet nothing burns
    assert (found, long) == expected


@pytest.mark.parametrize("requests", range(1, 4))
def test_few_requests_never_burn_anything(requests: int) -> None:
    """All of them bad: at six times a budget of 0.5 % that has a probability of 0.03**n."""
    quiet = [(0, 0)] * 4000
    assert verdict([*quiet, (requests, requests)])[0] is Verdict.INSUFFICIENT


def test_a_run_too_young_for_a_window_is_not_judged_by_it() -> None:
    assert judge_burning(benchmark(), budget_of([(20, 20)] * 4)) is None
    slow = [{"long": "1h", "short": "5m", "factor": 14.4}]
    assert judge_burning(benchmark(burn_rates=slow), budget_of([(20, 20)] * 299)) is None
    assert verdict([(20, 20)] * 300, burn_rates=slow) == (Verdict.CRITICAL, 3600)


def test_what_the_store_has_not_told_is_never_kept() -> None:
    burning = judge_burning(benchmark(), budget_of([GOOD] * 7200, unknown_before_s=7100))
    assert burning is not None
    assert (burning.judgement.verdict, burning.recovery.verdict) == (Verdict.INSUFFICIENT, Verdict.INSUFFICIENT)
    assert "the store has not told" in burning.judgement.note or burning.pair.long == 60


@pytest.mark.parametrize("seed", range(4))
def test_spending_just_the_budget_opens_no_page(seed: int) -> None:
    """Two hours at 50 requests/s that burn the budget at a rate of 1: looked at every ten seconds."""
    each_s = drawn(random.Random(seed), 7200, 50, 0.005)
    for end in range(10, 7200, 10):
        assert verdict(each_s[:end])[0] in (Verdict.MET, Verdict.INSUFFICIENT)


@pytest.mark.parametrize("seed", range(4))
def test_a_burst_is_told_while_it_lasts_and_safe_afterwards(seed: int) -> None:
    rng = random.Random(seed)
    each_s = drawn(rng, 3600, 20, 0.001) + drawn(rng, 900, 20, 0.4) + drawn(rng, 900, 20, 0.001)
    fast = {"burn_rates": [{"long": "1h", "short": "5m", "factor": 14.4}]}
    at = [second for second in range(3610, 5400, 10) if verdict(each_s[:second], **fast)[0] is Verdict.CRITICAL]
    assert 3600 < at[0] <= 3600 + 3600 * 14.4 * 0.005 / 0.4 + 120
    assert 4500 <= at[-1] < 4500 + 300
    after = judge_burning(benchmark(**fast), budget_of(each_s))
    assert after is not None
    assert after.recovery.verdict is Verdict.MET


steps = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 50), st.integers(0, 50)), max_size=30).map(
    lambda found: sorted({at * 10: (at * 10, n + bad, bad) for at, n, bad in found}.values())
)


@given(steps, st.integers(0, 4000), st.integers(0, 4000))
def test_steps_read_again_replace_those_read_before(rows: list[tuple[int, int, int]], cut: int, first_s: int) -> None:
    older = [(at, count + 5, bad) for at, count, bad in rows]
    again = rows[bisect_left(rows, (cut, 0, 0)) :]
    whole = Spending.of(5000, again, Spending.of(4000, older))
    kept = older[: len(rows) - len(again)] if again else older
    known = [one for one in [*kept, *again] if one[0] >= first_s]
    assert whole.since(first_s) == Spent(sum(one[1] for one in known), sum(one[2] for one in known))


def judge_with(**changes: Any) -> Judge:
    document = {"service": "autmatrix-backend", "name": "AutoMatrix", "benchmarks": [ERRORS | changes]}
    judge = Judge("test", Benchmarks.model_validate({"systems": {"autmatrix": document}}))
    judge.settle_joining()
    judge.board("run-of-tests").note_desired(desired())
    judge.board("run-of-tests").note_state(state(0))
    return judge


def of_budget(told: list[tuple[float, Breach]], ending: str = "_burn_rate") -> list[tuple[float, Breach]]:
    return [(when, breach) for when, breach in told if breach.metric.endswith(ending)]


def test_a_burning_budget_has_a_breach_of_its_own() -> None:
    told = of_budget(play(judge_with(), 150, lambda _: [50.0] * 10, failed=lambda s: 6 * (20 < s <= 30)))
    when, opened = told[0]
    assert 20 < when < 26
    assert (opened.metric, opened.level, opened.severity) == ("error_rate_burn_rate", "critical", "info")
    assert (opened.unit, opened.limit, opened.target, opened.critical) == ("times the budget", 14.4, 1, 14.4)
    assert opened.value > 14.4
    assert opened.note.endswith("requests bad; both over 1 m and 5 s must burn 14.4 times the budget")
    assert told[-1][1].status == "resolved"
    assert 30 < told[-1][0] < 100
    assert {breach.breach for _, breach in told} == {opened.breach}


def test_slow_requests_burn_the_budget_of_a_time() -> None:
    times = {"metric": "api", "source": "response_time", "target": "200 ms", "critical": "5 s", "objective": "99 %"}
    told = of_budget(play(judge_with(**times), 40, lambda s: [900.0 if s > 20 else 50.0] * 8 + [50.0] * 2))
    assert [breach.metric for _, breach in told[:1]] == ["api_burn_rate"]
    assert 20 < told[0][0] < 28


def stored_judge(until_s: int, hour_bad: int) -> Judge:
    """A run two hours old; of its first two hours the store has told, of the newest seconds the stream tells."""
    pairs = [{"long": "1h", "short": "5m", "factor": 14.4}]
    judge = judge_with(burn_rates=pairs)
    rows = [(START_S + at, 100, hour_bad) for at in range(0, until_s, 10)]
    key = BudgetKey("run-of-tests", "autmatrix", "error_rate")
    judge.budgets.spending[key] = Spending.of(START_S + until_s, rows)
    return judge


def tell(judge: Judge, since_s: int, until_s: int, failed: int) -> list[Breach]:
    told = []
    for seq, second in enumerate(range(since_s, until_s), 1):
        one = frame(seq, second + 1, [cell(second, [5.0] * 10, failed=failed)])
        judge.board("run-of-tests").merge(one, at_us(second + 1))
        told += judge.tick(at_us(second + 1))
    return told


def test_the_past_of_the_store_counts_with_what_the_stream_tells_of_now() -> None:
    assert [one.metric for one in tell(stored_judge(7200, 20), 7200, 7230, failed=2)][:1] == ["error_rate_burn_rate"]
    assert not tell(stored_judge(7200, 0), 7200, 7230, failed=0)


def test_nothing_counts_twice_where_the_store_and_the_stream_overlap() -> None:
    judge = stored_judge(7200, 1)
    tell(judge, 7150, 7230, failed=0)
    board = judge.boards["run-of-tests"]
    (judged,) = judge.budgets.judge(board, at_us(7232))
    assert judged.judgement.samples == 356 * 100 + 30 * 10, "of the store 3640 to 7200, of the stream the rest"


def test_a_store_that_was_away_too_long_leaves_the_budget_unknown() -> None:
    judge = stored_judge(7200, 20)
    tell(judge, 7200 + STREAM_S, 7200 + STREAM_S + 40, failed=0)
    (judged,) = judge.budgets.judge(judge.boards["run-of-tests"], at_us(7200 + STREAM_S + 42))
    assert judged.judgement.verdict is Verdict.INSUFFICIENT
    assert judged.judgement.note == "the store has not told what was spent over 1 h and 5 m yet"


def test_a_schedule_that_ends_lets_go_of_what_is_open_and_begins_anew() -> None:
    """The run starts on a Sunday at 12:00 UTC; a minute later maintenance begins, two later it is over."""
    maintenance = [{"days": "sun", "hours": "12:01-12:02"}]
    judge = judge_with(schedule={"maintenance": maintenance})
    told = play(judge, 150, lambda _: [50.0] * 10, failed=lambda s: 8 * (30 < s < 118))
    of_rate = of_budget(told, "error_rate")
    when, resolved = of_rate[-1]
    assert (of_rate[0][1].status, resolved.status) == ("opened", "resolved")
    assert 60 <= when < 61
    assert resolved.note == "its schedule does not apply any more: it is not judged"
    assert not [when for when, _ in told if when >= 61]
