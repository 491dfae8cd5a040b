"""Canaries against their past: false alarms a week and power, in simulation; and some weeks of days in a real store,
looked at hour by hour by the real watch: what a look costs, what it writes, and that it stays small.

The world is that of the tests (``tests/unit/canary_world.py``): lognormal requests with a course over the day, a week,
days that differ (AR(1)), hours that differ.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

import psutil
import psycopg

from bench.bars import Bar
from bench.store_rig import ENVIRONMENT, StoreRig, store_rig
from services.validator.board import RunBoard
from services.validator.canary import Span
from services.validator.canary_watch import CanaryWatch
from services.validator.drift import DriftRules, Finding, Grain, Window, judge_window
from services.validator.drift_breach import DriftFound, follow
from services.validator.judging import Judge
from services.validator.timescale import Store
from services.validator.verdict import Verdict
from shared.contracts.benchmarks_file import load_benchmarks
from shared.contracts.breach import BreachStatus
from shared.settings import PROJECT_ROOT
from shared.store.summaries import list_summaries
from tests.integration.canary_store import CanaryStore, canary_desired, now_at
from tests.unit.canary_world import FIRST, Change, World, as_window, whole_day

SEED = int(os.environ.get("TIDEGATE_BENCH_SEED", "1"))
WEEKS = int(os.environ.get("TIDEGATE_BENCH_WEEKS", "12"))
WARM_DAYS = int(os.environ.get("TIDEGATE_BENCH_WARM_DAYS", "56"))
TRIALS = int(os.environ.get("TIDEGATE_BENCH_TRIALS", "20"))
DAYS = int(os.environ.get("TIDEGATE_BENCH_DAYS", "42"))
WATCHED_DAYS = int(os.environ.get("TIDEGATE_BENCH_WATCHED_DAYS", "7"))
ACTIONS = int(os.environ.get("TIDEGATE_BENCH_ACTIONS", "6"))
RATE = float(os.environ.get("TIDEGATE_BENCH_RATE", "1"))
SIGMA = float(os.environ.get("TIDEGATE_BENCH_SIGMA", "0.5"))
DAY_EFFECT = float(os.environ.get("TIDEGATE_BENCH_DAY_EFFECT", "0.03"))
AR = float(os.environ.get("TIDEGATE_BENCH_AR", "0.5"))
WEEKEND = float(os.environ.get("TIDEGATE_BENCH_WEEKEND", "-0.1"))
ASKED = float(os.environ.get("TIDEGATE_BENCH_FALSE_ALARMS", "0.5"))
RULES = DriftRules(false_alarms_per_week=ASKED)
CHANGES = {
    "10 % more": (Change(WARM_DAYS, whole=1.1), None),
    "20 % more": (Change(WARM_DAYS, whole=1.2), 0.9),
    "the slowest 8 % take 1.3 times as long": (Change(WARM_DAYS, tail=1.3), 0.95),
    "1 % more failures": (Change(WARM_DAYS, errors=0.01), 0.95),
}


def measure() -> list[Bar]:
    bars = [*_false_alarms(), *_power()]
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        Path(folder).chmod(0o755)
        with store_rig(Path(folder)) as rig:
            return [*bars, *asyncio.run(_watched(rig))]


def world_of(seed: int, change: Change | None = None, actions: int = 3) -> World:
    return World(
        seed,
        actions=tuple(f"step_{number}" for number in range(actions)),
        rate=RATE,
        sigma=SIGMA,
        day_effect=DAY_EFFECT,
        ar=AR,
        weekend=WEEKEND,
        change=change or Change(1_000_000),
    )


def played(world: World, warm: int, days: int) -> Iterator[tuple[int, int, list[Finding]]]:
    """(day, hour, findings) of the days after ``warm``; hour 24 is the day as a whole."""
    hours: list[list[Window]] = []
    wholes: list[Window] = []
    for day in range(days):
        told = world.hours(day)
        hours.append([as_window(world.weekday(day), hour) for hour in told])
        wholes.append(as_window(world.weekday(day), whole_day(told), 86_400.0))
        first = max(0, day - RULES.days)
        for hour in range(24) if day >= warm else ():
            past = [hours[before][hour] for before in range(day - 1, first - 1, -1)]
            yield day, hour, judge_window(hours[day][hour], past, Grain.HOUR, RULES)
        if day >= warm:
            yield day, 24, judge_window(wholes[day], wholes[first:day][::-1], Grain.DAY, RULES)


def _false_alarms() -> list[Bar]:
    bars = []
    for name, ar, heavy in (
        (f"days AR(1) {AR:g}", AR, None),
        ("days independent", 0.0, None),
        ("days of Student's t with 4 degrees of freedom", AR, 4.0),
    ):
        beyond, opened, figures = 0, 0, 0
        for seed in range(2):
            board = RunBoard("canary-1")
            world = replace(world_of(SEED + 100 * seed), ar=ar, heavy=heavy)
            for day, hour, findings in played(world, WARM_DAYS, WARM_DAYS + 7 * WEEKS // 2):
                beyond += sum(one.verdict is Verdict.MISSED for one in findings)
                figures = len(findings)
                told = follow(board, ENVIRONMENT, {}, DriftFound(board.run, span_of(day, hour), tuple(findings)))
                opened += sum(breach.status is BreachStatus.OPENED for breach in told)
        how = (
            f"{WEEKS} weeks, {figures} figures, {WARM_DAYS} days before them, {ASKED:g} a week asked; "
            f"{beyond} figures out of their band; make bench BENCH=canary"
        )
        print(f"  {name}: {opened} opened in {WEEKS} weeks, {beyond} figures out of their band", flush=True)
        # Figures of one day go together, about three of them: four standard errors of so few weeks.
        most = ASKED + 4 * (3 * ASKED / WEEKS) ** 0.5
        bars.append(Bar(f"false drift alarms a week, {name}", opened / WEEKS, round(most, 2), "", how))
    return bars


def span_of(day: int, hour: int) -> Span:
    """An hour of the world, or its whole day."""
    start = FIRST + timedelta(days=day)
    if hour == 24:
        return Span(start, start + timedelta(days=1), start.date(), Grain.DAY)
    return Span(start + timedelta(hours=hour), start + timedelta(hours=hour + 1), start.date(), Grain.HOUR)


def _power() -> list[Bar]:
    bars = []
    for name, (change, least) in CHANGES.items():
        first: list[int | None] = []
        for trial in range(TRIALS):
            world = world_of(SEED + 10_000 + trial, change)
            broken = (
                hour
                for _, hour, findings in played(world, WARM_DAYS, WARM_DAYS + 1)
                if any(one.verdict is Verdict.MISSED for one in findings)
            )
            first.append(next(broken, None))
        found = [hour for hour in first if hour is not None]
        within = sorted(found)[len(found) // 2] + 1 if found else 0
        print(f"  {name}: found in {len(found)} of {TRIALS} days, half of them within {within} h", flush=True)
        how = f"{TRIALS} days, median after {within} h; make bench BENCH=canary"
        bars.append(Bar(f"share found within a day: {name}", len(found) / TRIALS, least or 0.0, "", how, "at least"))
    return bars


async def _watched(rig: StoreRig) -> list[Bar]:
    """The real watch over a real store, hour by hour through the last days."""
    dsn = rig.fresh_database("canary")
    world = world_of(SEED, actions=ACTIONS)
    process, looks, days = psutil.Process(), list[float](), list[float]()
    judge = Judge(ENVIRONMENT, load_benchmarks(PROJECT_ROOT / "config" / "benchmarks.yaml", ENVIRONMENT).benchmarks)
    watch = CanaryWatch(judge, Store(dsn), RULES, UTC)
    alarms, memory = 0, list[float]()
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        store = CanaryStore(connection, canary_desired("canary-1", ENVIRONMENT, FIRST, world.actions, RATE))
        await store.begin(FIRST)
        for day in range(DAYS):
            for hour, rows in enumerate(world.hours(day)):
                await store.add(rows.values())
                if day < DAYS - WATCHED_DAYS:
                    continue
                now = now_at(day, hour + 1, 6)
                await store.reach(now)
                began = time.monotonic()
                await watch.look(now)
                (days if hour == 23 else looks).append(time.monotonic() - began)
                found = [one for window in watch.take() for one in window.findings]
                alarms += sum(one.verdict is Verdict.MISSED for one in found)
            if day == DAYS - WATCHED_DAYS - 1:
                await connection.execute("SELECT fold_timings(now() + interval '1 day')")
                await connection.execute("VACUUM ANALYZE")
            if day >= DAYS - WATCHED_DAYS:
                memory.append(process.memory_info().rss / 1e6)
                await connection.execute("SELECT fold_timings(now() + interval '1 day')")
        written = await list_summaries(connection, ENVIRONMENT, limit=1_000)
        sizes = await (await connection.execute("SELECT max(pg_column_size(body)) / 1e3 FROM daily_summary")).fetchone()
    complete = [row for row in written if row.complete]
    how = f"{DAYS} days of {ACTIONS} actions in PostgreSQL, the last {WATCHED_DAYS} watched; make bench BENCH=canary"
    looks.sort()
    # The first look also catches up with the days before.
    later = days[1:] or days
    return [
        Bar("a look at an hour of a canary, median", looks[len(looks) // 2], 1.0, "s", how),
        Bar("a look at an hour of a canary, at most", looks[-2] if len(looks) > 1 else looks[-1], 5.0, "s", how),
        Bar("summing up a day and judging it", max(later), 10.0, "s", how),
        Bar(
            "days summed up exactly once", sum(row.revision == 1 for row in complete), len(complete), "", how, "exactly"
        ),
        Bar("false alarms over the watched days", alarms, max(1.0, ASKED * WATCHED_DAYS / 7 * 4), "", how),
        Bar("growth of memory over the watched days", memory[-1] / memory[0], 1.1, "times", how),
        Bar("the largest summary of a day", float(sizes[0]) if sizes else 0.0, 100, "kB", how),
    ]
