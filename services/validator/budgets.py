"""The error budgets of all runs: what the store told of them, joined with the stream, and judged once a second.

Pure but for memory: the reader of the store hands in what it read, ``now_us`` is passed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from services.validator.board import RunBoard, concerns
from services.validator.breach_event import Judged
from services.validator.burn_rate import UNIT, Budget, Burning, Spending, Spent, judge_burning
from services.validator.measuring import Measured, chosen_by
from services.validator.windows import SystemWindows
from shared.contracts.base import utc_of_us
from shared.contracts.benchmarks import Benchmark, Benchmarks, Source
from shared.contracts.burn import BURN_RATE
from shared.histogram import bucket_of

STREAM_S = 100
"""So far back the stream's windows are trusted to be whole; what is older must have been told by the store."""
EVERY_US = 1_000_000


class BudgetKey(NamedTuple):
    """One budget: of which run, system and benchmark."""

    run: str
    system: str
    metric: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A budget that the store is to tell of, from ``started_s`` on."""

    key: BudgetKey
    benchmark: Benchmark
    started_s: int


class Budgets:
    """``spending``: what was read last of each budget."""

    def __init__(self, benchmarks: Benchmarks) -> None:
        self._benchmarks = benchmarks
        self._judged_us: dict[str, int] = {}
        self.spending: dict[BudgetKey, Spending] = {}

    def wanted(self, board: RunBoard) -> Iterator[Wanted]:
        """The budgets that a run spends from."""
        if board.desired is None or not board.started_s:
            return
        for system, owner in self._benchmarks.systems.items():
            for benchmark in owner.benchmarks:
                if benchmark.objective is not None and concerns(self._benchmarks, board.desired, system, benchmark):
                    yield Wanted(BudgetKey(board.run, system, benchmark.metric), benchmark, board.started_s)

    def judge(self, board: RunBoard, now_us: int) -> Iterator[Judged]:
        """Every budget of a run, at most once a second."""
        if now_us - self._judged_us.get(board.run, 0) < EVERY_US:
            return
        self._judged_us[board.run] = now_us
        now = utc_of_us(now_us)
        for wanted in self.wanted(board):
            if not wanted.benchmark.schedule.covers(now):
                continue
            windows = board.windows.get(wanted.key.system)
            if windows is None or windows.watermark_us is None or windows.silent(now_us):
                continue
            budget = _budget(wanted, windows, self.spending.get(wanted.key, Spending()))
            burning = judge_burning(wanted.benchmark, budget)
            if burning is not None:
                yield _judged(board, self._benchmarks, wanted, burning, windows.watermark_us)

    def forget(self, run: str) -> None:
        self._judged_us.pop(run, None)
        for key in [key for key in self.spending if key.run == run]:
            del self.spending[key]


def as_burn_rate(benchmark: Benchmark, burning: Burning) -> Benchmark:
    """The benchmark that a breach of a budget is told of: ``_burn_rate`` ends its metric, its limits are factors."""
    pair = burning.pair
    limits: dict[str, float] = {
        level: min((one.factor for one in benchmark.burn_rates if one.level == level), default=pair.factor)
        for level in ("target", "critical")
    }
    severity: dict[str, str] = {pair.level: pair.severity or benchmark.severity.at(pair.level)}
    return benchmark.model_copy(
        update={
            "metric": f"{benchmark.metric}{BURN_RATE}",
            "statistic": "rate",
            "unit": UNIT,
            "severity": benchmark.severity.model_copy(update=severity),
            **(limits | {pair.level: pair.factor}),
        }
    )


def _judged(board: RunBoard, benchmarks: Benchmarks, wanted: Wanted, burning: Burning, watermark_us: int) -> Judged:
    system = wanted.key.system
    return Judged(
        board,
        system,
        benchmarks.systems[system],
        as_burn_rate(wanted.benchmark, burning),
        Measured(burning.first_s, watermark_us // 1_000_000, watermark_us, None),
        burning.judgement,
        burning.recovery,
    )


def _budget(wanted: Wanted, windows: SystemWindows, stored: Spending) -> Budget:
    last_s = (windows.watermark_us or 0) // 1_000_000
    whole_from_s = max(wanted.started_s, last_s - STREAM_S)
    told = stored.until_s > whole_from_s
    seen = _newest_first(wanted.benchmark, windows, stored.until_s if told else whole_from_s, last_s)

    def spent(first_s: int) -> Spent | None:
        if first_s < whole_from_s and not told:
            return None
        newest = next((spent for second, spent in seen if second >= first_s), Spent(0, 0))
        return newest.plus(stored.since(first_s)) if told else newest

    return Budget(wanted.started_s, last_s, spent)


def _newest_first(benchmark: Benchmark, windows: SystemWindows, first_s: int, last_s: int) -> list[tuple[int, Spent]]:
    """By second what was spent from it on, ascending."""
    chosen = chosen_by(benchmark)
    edge = bucket_of(benchmark.target * 1e3)
    sums, total = [], Spent(0, 0)
    for second in range(last_s, first_s - 1, -1):
        applies = benchmark.schedule.covers(utc_of_us(second * 1_000_000))
        for _, tally in windows.tallies(chosen, second, second) if applies else ():
            bad = (
                tally.failed
                if benchmark.source is Source.ERROR_RATE
                else sum(count for bucket, count in tally.response.items() if bucket > edge)
            )
            total = total.plus(Spent(tally.count, bad))
        sums.append((second, total))
    return sums[::-1]
