"""The reader of error budgets: joins at a moment past, looks back each time, and survives a store that is away."""

from datetime import datetime
from typing import cast

import pytest

from services.validator.budget_reader import AGAIN_S, LATENESS_S, BudgetReader
from services.validator.budgets import BudgetKey
from services.validator.timescale import Store
from shared.errors import TransientError
from shared.store.budgets import BudgetOf
from tests.unit.test_validator_burn_rate import judge_with
from tests.unit.validator_frames import START_S

KEY = BudgetKey("run-of-tests", "autmatrix", "error_rate")


class Shelf:
    """A store of ten requests every ten seconds, one of them bad, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.away = False

    async def read_spending(self, budget: BudgetOf, since: datetime, until: datetime) -> list[tuple[int, int, int]]:
        assert (budget.run, budget.system, budget.slower_than) == ("run-of-tests", "autmatrix", None)
        if self.away:
            raise TransientError("the store: away")
        first, end = int(since.timestamp()), int(until.timestamp())
        self.asked.append((first - START_S, end - START_S))
        return [(at, 10, 1) for at in range(first, end, 10)]


async def test_every_look_goes_a_little_back_and_nothing_counts_twice() -> None:
    shelf, judge, now_s = Shelf(), judge_with(), [0.0]
    reader = BudgetReader(cast(Store, shelf), judge, now_us=lambda: round((START_S + now_s[0]) * 1e6))
    for now_s[0] in (20, 100, 115, 500, 900):
        await reader.look()
    assert shelf.asked[0] == (0, 100 - LATENESS_S)
    assert shelf.asked[-1] == (0, 870), "a whole look every ten minutes"
    assert judge.budgets.spending[KEY].since(START_S) == (870, 87)
    now_s[0] = 1300
    await reader.look()
    assert shelf.asked[-1] == (870 - AGAIN_S, 1270)
    assert judge.budgets.spending[KEY].since(START_S) == (1270, 127)


async def test_a_store_that_is_away_leaves_what_was_known(caplog: pytest.LogCaptureFixture) -> None:
    shelf, judge, now_s = Shelf(), judge_with(), [100.0]
    reader = BudgetReader(cast(Store, shelf), judge, now_us=lambda: round((START_S + now_s[0]) * 1e6))
    await reader.look()
    shelf.away, now_s[0] = True, 200.0
    await reader.look()
    assert "judged by the stream alone" in caplog.text
    assert judge.budgets.spending[KEY].until_s == START_S + 70
    shelf.away = False
    await reader.look()
    assert judge.budgets.spending[KEY].until_s == START_S + 170


async def test_maintenance_spends_nothing() -> None:
    """The run starts on a Sunday at 12:00 UTC."""
    shelf = Shelf()
    judge = judge_with(schedule={"maintenance": [{"days": "sun", "hours": "12:01-12:02"}]})
    await BudgetReader(cast(Store, shelf), judge, now_us=lambda: (START_S + 330) * 1_000_000).look()
    assert judge.budgets.spending[KEY].since(START_S) == (300 - 60, 24)


async def test_a_run_that_is_forgotten_while_the_store_answers_leaves_nothing() -> None:
    judge = judge_with()

    class Slow(Shelf):
        async def read_spending(self, budget: BudgetOf, since: datetime, until: datetime) -> list[tuple[int, int, int]]:
            judge.forget("run-of-tests")
            return await super().read_spending(budget, since, until)

    await BudgetReader(cast(Store, Slow()), judge, now_us=lambda: (START_S + 330) * 1_000_000).look()
    assert judge.budgets.spending == {}
