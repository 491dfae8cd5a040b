"""Canaries over a real store and a real bus: a drift is told, days are summed up once, late data revises them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import nats
import psycopg
import pytest
from click.testing import CliRunner

from services.console.cli import main
from services.validator.app import serve
from services.validator.canary_watch import CanaryWatch
from services.validator.drift import DriftRules, Grain
from services.validator.judging import Judge
from services.validator.settings import Settings
from services.validator.timescale import Store
from shared.contracts.benchmarks import Benchmarks
from shared.contracts.breach import BreachEvent, DriftMetric
from shared.contracts.run import Phase, RunState
from shared.errors import TransientError
from shared.store.summaries import SummaryRow, list_summaries, read_summary
from shared.streams import ensure_streams
from shared.subjects import Subjects
from tests.integration.canary_store import CanaryStore, canary_desired, now_at
from tests.unit.canary_world import FIRST, Change, World

pytestmark = pytest.mark.integration

RUN = "canary-1"
ACTIONS = ("login", "search")
DAYS = 21
BENCHMARKS = Benchmarks.model_validate(
    {
        "systems": {
            "shop": {
                "service": "shop-backend",
                "name": "Shop",
                "benchmarks": [
                    {"metric": "response_time", "target": 500, "critical": 900, "unit": "ms"}
                    | {"better": "lower", "source": "response_time"},
                    {"metric": "error_rate", "target": 0.01, "critical": 0.05, "unit": "ratio"}
                    | {"better": "lower", "source": "error_rate"},
                ],
            }
        }
    }
)


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as opened:
        yield opened


async def seeded(
    connection: psycopg.AsyncConnection[Any],
    environment: str,
    change: Change,
    *,
    hours: int,
    shift: timedelta = timedelta(0),
) -> CanaryStore:
    """``DAYS`` whole days and some hours of the next one."""
    world = World(3, actions=ACTIONS, change=change)
    started = FIRST + shift
    store = CanaryStore(connection, canary_desired(RUN, environment, started, ACTIONS, world.rate), shift)
    await store.begin(started)
    for day in range(DAYS + 1):
        rows = world.hours(day)[: hours if day == DAYS else 24]
        await store.add(row for hour in rows for row in hour.values())
    await store.reach(started + timedelta(days=DAYS, hours=hours, minutes=1))
    return store


def watching(dsn: str, environment: str) -> tuple[Judge, CanaryWatch]:
    judge = Judge(environment, BENCHMARKS)
    return judge, CanaryWatch(judge, Store(dsn), DriftRules(), UTC)


async def days_of(connection: psycopg.AsyncConnection[Any], environment: str) -> dict[date, SummaryRow]:
    return {row.day: row for row in await list_summaries(connection, environment)}


async def test_days_are_summed_up_once_and_caught_up_with_and_late_data_revises_them(
    connection: psycopg.AsyncConnection[Any], postgres_dsn: str, environment: str
) -> None:
    store = await seeded(connection, environment, Change(10_000), hours=9)
    _, watch = watching(postgres_dsn, environment)
    await watch.look(now_at(DAYS, 9))
    days = await days_of(connection, environment)
    today, yesterday = now_at(DAYS, 0).date(), now_at(DAYS - 1, 0).date()
    assert sorted(days) == [today - timedelta(days=ago) for ago in range(7, -1, -1)]
    assert {(row.revision, row.complete) for day, row in days.items() if day != today} == {(1, True)}
    assert (days[today].revision, days[today].complete) == (0, False)

    body = days[yesterday].body
    stored = sum(row.count for hour in World(3, actions=ACTIONS).hours(DAYS - 1) for row in hour.values())
    assert body["requests"]["stored"] == pytest.approx(stored, rel=0.02)
    assert body["requests"]["missing"] == 0
    assert body["benchmarks"][0]["hours"]["met"] == 24
    assert 0 <= body["benchmarks"][1]["error_budget_spent"] < 0.5
    assert body["drift"]["judged"] == 2 * 3 + 2 + 1
    assert body["drift"]["findings"] == []
    assert body["breaches"]["total"] == 0
    assert {one["action"] for one in body["actions"]} == set(ACTIONS)

    # Another validator takes over: nothing is written twice.
    _, second = watching(postgres_dsn, environment)
    await second.look(now_at(DAYS, 9, 30))
    again = await days_of(connection, environment)
    assert {day: (row.revision, row.written_at) for day, row in again.items() if day != today} == {
        day: (row.revision, row.written_at) for day, row in days.items() if day != today
    }

    late = list(World(3, actions=ACTIONS).hours(DAYS - 1)[7].values())
    moved = now_at(DAYS - 1, 7, 0) - late[0].start
    store.shift = moved
    await store.add(late)
    await second.look(now_at(DAYS, 9, 45))
    revised = (await days_of(connection, environment))[yesterday]
    assert revised.revision == 2
    assert revised.body["requests"]["stored"] == body["requests"]["stored"] + sum(row.count for row in late)
    await second.look(now_at(DAYS, 10, 1))
    assert (await days_of(connection, environment))[yesterday].revision == 2


async def test_a_run_that_ended_has_its_last_day_summed_up(
    connection: psycopg.AsyncConnection[Any], postgres_dsn: str, environment: str
) -> None:
    await seeded(connection, environment, Change(10_000), hours=9)
    ended = now_at(DAYS, 9, 0)
    await connection.execute("UPDATE run SET ended_at = %s, phase = 'stopped'", (ended,))
    _, watch = watching(postgres_dsn, environment)
    await watch.look(ended + timedelta(minutes=6))
    row = (await days_of(connection, environment))[ended.date()]
    assert (row.revision, row.complete, row.body["until"]) == (1, True, ended.isoformat())
    assert row.body["drift"] is None, "nine hours are no day to compare"


async def test_hours_are_judged_once_each_and_not_before_the_store_has_them(
    connection: psycopg.AsyncConnection[Any], postgres_dsn: str, environment: str
) -> None:
    store = await seeded(connection, environment, Change(DAYS, whole=1.5), hours=9)
    _, watch = watching(postgres_dsn, environment)
    await store.reach(now_at(DAYS, 8, -10))
    await watch.look(now_at(DAYS, 9))
    hours = [found.span.start.hour for found in watch.take() if found.span.day == now_at(DAYS, 0).date()]
    assert hours == [4, 5, 6]
    await watch.look(now_at(DAYS, 9, 10))
    assert watch.take() == []
    await store.reach(now_at(DAYS, 9, 1))
    await watch.look(now_at(DAYS, 9, 20))
    found = watch.take()
    assert [one.span.start.hour for one in found] == [7, 8]
    broken = {(one.metric, one.statistic) for one in found[0].findings if one.verdict == "missed"}
    assert broken == {(DriftMetric.RESPONSE_TIME, name) for name in ("p50", "p95", "p99")}


async def test_a_day_that_was_summed_up_and_perhaps_not_told_is_judged_again_by_the_next_to_watch(
    connection: psycopg.AsyncConnection[Any], postgres_dsn: str, environment: str
) -> None:
    await seeded(connection, environment, Change(DAYS - 1, whole=1.5), hours=1)

    async def days_found(watch: CanaryWatch, minute: float) -> list[date]:
        await watch.look(now_at(DAYS, 1, minute))
        return [found.span.day for found in watch.take() if found.span.grain is Grain.DAY]

    yesterday = now_at(DAYS - 1, 0).date()
    _, watch = watching(postgres_dsn, environment)
    assert (await days_found(watch, 10))[-1] == yesterday
    assert await days_found(watch, 11) == []
    watch.forget()
    assert await days_found(watch, 12) == [yesterday]
    _, another = watching(postgres_dsn, environment)
    assert await days_found(another, 13) == [yesterday]
    assert await days_found(another, 14) == []


async def test_a_store_that_is_away_is_asked_again(
    connection: psycopg.AsyncConnection[Any], postgres_dsn: str, environment: str
) -> None:
    await seeded(connection, environment, Change(10_000), hours=1)
    judge, watch = watching("postgresql://nobody@127.0.0.1:1/none", environment)
    with pytest.raises(TransientError):
        await watch.look(now_at(DAYS, 1))
    looks = 0

    def presiding() -> bool:
        nonlocal looks
        looks += 1
        return True

    task = asyncio.create_task(watch.watch(presiding))
    await asyncio.sleep(0.3)
    assert not task.done()
    task.cancel()
    assert looks == 1
    assert judge.boards == {}


async def test_a_drift_is_told_to_subscribers_and_shown_by_the_console(
    connection: psycopg.AsyncConnection[Any],
    postgres_dsn: str,
    nats_url: str,
    environment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole service: 21 days of a canary are in the store, and the last hours take half as long again."""
    now = datetime.now(UTC)
    shift = (now - timedelta(minutes=4)).replace(minute=0, second=0, microsecond=0) - FIRST - timedelta(days=DAYS)
    shift -= timedelta(hours=shift.seconds // 3_600)
    hours = int((now - timedelta(minutes=4) - FIRST - shift - timedelta(days=DAYS)).total_seconds() // 3_600)
    await seeded(connection, environment, Change(DAYS - 1, whole=1.5), hours=hours, shift=shift)
    asked = canary_desired(RUN, environment, FIRST + shift, ACTIONS, 1.0)
    await connection.execute("UPDATE producer SET last_emitted = %s", (now,))

    client = await nats.connect(nats_url)
    js, names = client.jetstream(), Subjects(environment)
    heard: list[BreachEvent] = []

    async def hear(message: Any) -> None:
        heard.append(BreachEvent.model_validate_json(message.data))

    await client.subscribe(f"tidegate.{environment}.breach.>", cb=hear)
    await ensure_streams(js, names)
    running = RunState(
        run=RUN, environment=environment, phase=Phase.RUNNING, generation=1, at=now, coordinator="w1",
        started_at=FIRST + shift,
    )  # fmt: skip
    await js.publish(names.run_desired(RUN), asked.model_dump_json().encode())
    await js.publish(names.run_state(RUN), running.model_dump_json().encode())
    stop = asyncio.Event()
    validator = asyncio.create_task(
        serve(Settings(environment=environment, nats_url=nats_url, store_dsn=postgres_dsn), stop)
    )
    try:
        deadline = time.monotonic() + 30
        while not heard or await read_summary(connection, RUN, day=now.date()) is None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    finally:
        stop.set()
        await asyncio.wait_for(validator, 15)
        await client.close()
    assert {event.data.status for event in heard} <= {"opened", "updated"}
    assert {event.data.metric for event in heard} == {DriftMetric.RESPONSE_TIME}
    first = heard[0].data
    assert (first.level, first.severity, first.service) == ("target", "info", "shop")
    assert first.baseline is not None
    assert first.value / first.baseline == pytest.approx(1.5, abs=0.25)

    monkeypatch.setenv("TIDEGATE_NATS_URL", nats_url)
    monkeypatch.setenv("TIDEGATE_STORE_DSN", postgres_dsn)
    monkeypatch.setenv("TIDEGATE_ENVIRONMENT", environment)

    async def call(*arguments: str) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, main, list(arguments))
        assert result.exit_code == 0, result.output
        return result.stdout

    assert len(json.loads(await call("summary", "--json"))) == 8
    shown = await call("summary", RUN)
    assert "drift against past days" not in shown.split("\n\n")[0]
    assert f"{RUN} on {now.date()} (UTC)" in shown
    yesterday = (FIRST + shift + timedelta(days=DAYS - 1)).date()
    told = await call("summary", RUN, "--day", str(yesterday), "--markdown")
    assert "## Drift against past days" in told
    assert "response\\_time\\_drift" in told
    report = json.loads(await call("report", RUN, "--json", "-"))
    assert (report["run"], report["going_on"], len(report["days"])) == (RUN, True, 8)
    page = await asyncio.to_thread(CliRunner().invoke, main, ["report", RUN, "--html", "/tmp/none.html"])
    assert page.exit_code == 2
    assert "still goes on" in page.stderr
