"""Edge between the store and the error budgets: reads what live runs have spent, every few seconds, for ever.

A store that is away leaves the budgets as they were; when what they know is too old to be joined with the stream, they
are judged insufficient, never kept.
"""

import asyncio
import logging
from collections.abc import Callable

from services.validator.budgets import Budgets, Wanted
from services.validator.burn_rate import Spending
from services.validator.judging import Judge
from services.validator.measuring import kind_of
from services.validator.timescale import Store
from shared.clock import wall_us
from shared.contracts.base import utc_of_us
from shared.contracts.benchmarks import Source
from shared.errors import TransientError
from shared.histogram import bucket_of
from shared.store.budgets import BudgetOf

EVERY_S = 15.0
LATENESS_S = 30
"""What ended so long ago is taken for committed; what comes later counts with the next look further back."""
STEP_S = 10
AGAIN_S = 600
"""So far back a look goes over what was read before."""
WHOLE_EVERY_S = 600.0

logger = logging.getLogger(__name__)


class BudgetReader:
    """One per process."""

    def __init__(
        self, store: Store, judge: Judge, *, every_s: float = EVERY_S, now_us: Callable[[], int] = wall_us
    ) -> None:
        self._store, self._judge, self._every_s, self._now_us = store, judge, every_s, now_us
        self._whole_at_us: dict[tuple[str, ...], int] = {}

    async def read(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._every_s)

    async def look(self) -> None:
        """Read every budget of every live run once."""
        budgets = self._judge.budgets
        wanted = [one for board in list(self._judge.boards.values()) if board.live for one in budgets.wanted(board)]
        alive = {one.key for one in wanted}
        self._whole_at_us = {key: at for key, at in self._whole_at_us.items() if key in alive}
        try:
            for one in wanted:
                await self._look(budgets, one)
        except TransientError as error:
            logger.warning("error budgets are judged by the stream alone: %s", error)

    async def _look(self, budgets: Budgets, one: Wanted) -> None:
        now_us = self._now_us()
        until_s = (now_us // 1_000_000 - LATENESS_S) // STEP_S * STEP_S
        if until_s <= one.started_s:
            return
        before = budgets.spending.get(one.key)
        whole = before is None or now_us - self._whole_at_us.get(one.key, 0) > WHOLE_EVERY_S * 1e6
        longest_s = max(pair.long for pair in one.benchmark.burn_rates)
        oldest_s = max(one.started_s, until_s - round(longest_s) - 3_600) // STEP_S * STEP_S
        since_s = oldest_s if whole or before is None else max(oldest_s, before.until_s - AGAIN_S)
        since, until = utc_of_us(since_s * 1_000_000), utc_of_us(until_s * 1_000_000)
        read = await self._store.read_spending(_budget_of(one), since, until)
        if one.key.run not in self._judge.boards:
            return  # It was forgotten meanwhile, and its budgets with it.
        covers = one.benchmark.schedule.covers
        steps = [step for step in read if covers(utc_of_us(step[0] * 1_000_000))]
        budgets.spending[one.key] = Spending.of(until_s, steps, None if whole else before)
        if whole:
            self._whole_at_us[one.key] = now_us


def _budget_of(one: Wanted) -> BudgetOf:
    benchmark = one.benchmark
    return BudgetOf(
        one.key.run,
        one.key.system,
        kind_of(benchmark),
        benchmark.scenarios,
        benchmark.actions,
        None if benchmark.source is Source.ERROR_RATE else bucket_of(benchmark.target * 1e3),
    )
