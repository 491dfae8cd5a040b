"""The queries of canaries, the same on plain PostgreSQL and on TimescaleDB: spans say what their rows say."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import pytest
from psycopg.types.json import Jsonb

from shared.contracts.breach import BreachEvent, BreachStatus
from shared.contracts.timing import ErrorKind, Kind
from shared.histogram import Histogram
from shared.store.breaches import save_breach
from shared.store.canary import count_stored, list_canaries, read_day_breaches, read_reach, read_slowest, read_spans
from shared.store.summaries import list_summaries, read_heads, read_summary, save_summary
from tests.integration.canary_store import CanaryStore, canary_desired
from tests.integration.test_store_queries import OTHER, Connection, filled, rows_of
from tests.unit.canary_world import FIRST, World
from tests.unit.collector_frames import RUN
from tests.unit.console_cases import breach

pytestmark = pytest.mark.integration
HOUR = timedelta(hours=1)


@pytest.fixture
async def connection(store_dsn: str) -> AsyncIterator[Connection]:
    """On plain PostgreSQL and on TimescaleDB."""
    async with filled(store_dsn) as opened:
        yield opened


async def test_spans_hold_what_the_rows_hold_without_ramp_up_and_cancelled_requests(connection: Connection) -> None:
    this = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    spans = [(run, this - HOUR, this + HOUR) for run in (RUN, OTHER, "unknown")]
    found = await read_spans(connection, spans)
    rows = await rows_of(connection)
    of_run = [one for one in found if one.run == RUN]
    assert {one.start for one in found} == {this - HOUR}
    assert {(one.action, one.kind) for one in of_run} == {(row[0], Kind(row[1])) for row in rows}
    for one in of_run:
        told = [row for row in rows if row[0] == one.action]
        judged = [row for row in told if not row[4] and row[3] != ErrorKind.CANCELLED]
        assert (one.stored, one.count) == (len(told), len(judged))
        assert one.cancelled == sum(row[3] == ErrorKind.CANCELLED for row in told)
        assert one.failed == sum(row[3] != ErrorKind.OK for row in judged)
        assert one.refused == sum(row[3] == ErrorKind.REFUSED for row in judged)
        assert (one.sum_us, one.max_us) == (sum(row[6] for row in judged), max(row[6] for row in judged))
        buckets = Histogram()
        for row in judged:
            buckets.add(row[8])
        assert one.response == buckets.counts
    assert await count_stored(connection, RUN, this - HOUR, this + HOUR) == len(rows)
    assert await count_stored(connection, RUN, this + HOUR, this + 2 * HOUR) == 0
    reach = await read_reach(connection, RUN)
    assert reach is not None
    assert abs(reach - datetime.now(UTC)) < timedelta(minutes=5)
    assert await read_reach(connection, "unknown") is None


async def test_each_past_hour_is_read_by_itself(connection: Connection) -> None:
    world = World(1, actions=("login",))
    store = CanaryStore(connection, canary_desired("canary-1", "here", FIRST, world.actions, 1.0))
    await store.begin(FIRST)
    days = [world.hours(day) for day in range(4)]
    await store.add(row for hours in days for hour in hours for row in hour.values())
    spans = [("canary-1", FIRST + timedelta(days=day, hours=7), FIRST + timedelta(days=day, hours=8)) for day in (3, 1)]
    found = await read_spans(connection, spans)
    assert found == [row for day in (1, 3) for row in days[day][7].values()]
    whole = await read_spans(connection, [("canary-1", FIRST + timedelta(days=2), FIRST + timedelta(days=3))])
    assert [one.count for one in whole] == [sum(row.count for hour in days[2] for row in hour.values())]


async def test_canary_runs_are_listed_until_they_have_long_ended(connection: Connection) -> None:
    for name, ended in (("goes-on", None), ("ended", FIRST + timedelta(days=3)), ("old", FIRST + HOUR)):
        desired = canary_desired(name, "here", FIRST, ("a",), 1.0)
        await CanaryStore(connection, desired).begin(FIRST, ended)
    await connection.execute(
        "INSERT INTO run (run, environment, phase, generation, requested_at, started_at, desired) "
        "VALUES ('steady', 'here', 'running', 1, now(), now(), %s)",
        (Jsonb({"loads": [{"profile": "steady"}]}),),
    )
    listed = await list_canaries(connection, "here", FIRST + timedelta(days=1))
    assert [row.run for row in listed] == ["ended", "goes-on"]
    assert await list_canaries(connection, "elsewhere", FIRST) == []


async def test_a_summary_is_written_once_and_revised_by_what_is_new(connection: Connection) -> None:
    day = date(2026, 3, 1)

    async def save(body: dict[str, int], *, complete: bool, day: date = day) -> int | None:
        return await save_summary(
            connection, "here", "canary-1", day, "visit", complete=complete, events=body["n"], body=body
        )

    assert await save({"n": 1}, complete=False) == 0
    assert await save({"n": 1}, complete=False) is None
    assert await save({"n": 2}, complete=False) == 0
    assert await save({"n": 2}, complete=True) == 1
    assert await save({"n": 2}, complete=True) is None
    assert await save({"n": 9}, complete=False) is None, "what is complete stays so"
    assert await save({"n": 3}, complete=True) == 2
    assert await save({"n": 7}, complete=True, day=day + timedelta(days=1)) == 1
    heads = await read_heads(connection, "here", day)
    assert (heads["canary-1", day].revision, heads["canary-1", day].events) == (2, 3)
    assert [row.body["n"] for row in await list_summaries(connection, "here")] == [7, 3]
    assert [row.body["n"] for row in await list_summaries(connection, "here", run="canary-1", day=day)] == [3]
    assert await list_summaries(connection, "here", run="other") == []
    before = await read_summary(connection, "canary-1", before=day + timedelta(days=1))
    assert before is not None
    assert before.day == day
    assert before.as_json()["revision"] == 2
    assert await read_summary(connection, "canary-1", before=day) is None


async def test_the_breaches_of_a_day_are_those_open_within_it(connection: Connection) -> None:
    told = [
        ("before", BreachStatus.RESOLVED, -30.0, -20.0),
        ("into", BreachStatus.RESOLVED, -30.0, 5.0),
        ("open", BreachStatus.UPDATED, -500.0, None),
        ("after", BreachStatus.OPENED, 30.0, None),
    ]
    start = FIRST + timedelta(days=10)
    for name, status, opened_h, resolved_h in told:
        one = breach(status, breach=name, run="canary-1", revision=2).model_copy(
            update={
                "opened_at": start + timedelta(hours=opened_h),
                "resolved_at": None if resolved_h is None else start + timedelta(hours=resolved_h),
            }
        )
        last = start + timedelta(hours=opened_h if resolved_h is None else resolved_h)
        for event in (BreachEvent.of(one.model_copy(update={"revision": 1}), last), BreachEvent.of(one, last)):
            await save_breach(connection, event, event.model_dump_json())
    rows = await read_day_breaches(connection, "canary-1", start, start + timedelta(days=1))
    assert {(row["breach"], row["revision"]) for row in rows} == {("into", 2), ("open", 2)}


async def test_the_slowest_recorded_requests_are_found_by_what_they_were(connection: Connection) -> None:
    series = await (
        await connection.execute("SELECT series_id, action FROM series WHERE run = %s AND kind = 0", (RUN,))
    ).fetchall()
    now = datetime.now(UTC)
    for number, (series_id, _) in enumerate(series):
        for place in range(5):
            await connection.execute(
                "INSERT INTO request_trace VALUES (%s, %s, gen_random_uuid(), %s)",
                (now, series_id, 10_000_000 + 1_000 * place + number),
            )
    since, until = now - HOUR, now + HOUR
    slowest = await read_slowest(connection, RUN, since, until, limit=3)
    assert [one.response_us for _, one in slowest] == sorted((one.response_us for _, one in slowest), reverse=True)
    assert slowest[0][1].response_us == 10_004_000 + len(series) - 1
    first = series[0][1]
    assert {action for action, _ in await read_slowest(connection, RUN, since, until, action=first)} == {first}
    assert await read_slowest(connection, RUN, since, until, kind=Kind.WORKFLOW, action=first) == []
    assert await read_slowest(connection, RUN, until, until + HOUR) == []
