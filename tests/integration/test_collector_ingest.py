"""Frames from TIMINGS to the store and on to WINDOWS: once in effect, whatever is delivered or dies how often."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg
import pytest

from deploy.embedded.ports import choose_port
from deploy.embedded.postgres import PostgresServer
from services.collector.dead_letters import TooManyDeadError
from services.collector.frame_store import FrameStore
from services.collector.measures import Measures
from services.collector.timescale import Timescale
from shared.clock import wall_us
from shared.contracts.base import utc_of_us
from shared.contracts.frame import encode
from shared.contracts.timing import Kind
from shared.histogram import bucket_of
from shared.store import ingest, upkeep_postgres
from shared.store.keeping import FRAMES_KEPT, Keeping
from tests.contracts.schemas import hold
from tests.integration.collector_rig import Rig, eventually, open_rig
from tests.unit.collector_frames import RUN, SYSTEM, make_events, make_frame

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def rig(nats_url: str, environment: str, postgres_dsn: str) -> AsyncIterator[Rig]:
    async with open_rig(nats_url, environment, postgres_dsn) as opened:
        yield opened


async def test_what_is_stored_equals_what_was_sent(rig: Rig) -> None:
    frame = make_frame(1, events=make_events(500, user=np.arange(500), attempt=3, flags=1, error=8, check=2), sent=700)
    async with rig.collector():
        await rig.publish(frame)
        await rig.settled()
    rows = await rig.query(
        "SELECT at, s.run, s.system, scenario, action, kind, p.worker, p.epoch, user_no, dispatch_us, service_us, "
        "ttfb_us, bytes_in, status, error, check_result, attempt, flags, service_bucket, response_bucket, trace_id "
        "FROM request_timing JOIN series s USING (series_id) JOIN producer p USING (producer_id) ORDER BY user_no"
    )
    expected = []
    for event, done in zip(frame.events, frame.done_wall_us, strict=True):
        state = frame.actions[event["action"]]
        dispatch, service = int(event["dispatch_us"]), int(event["service_us"])
        numbers = [int(event[name]) for name in ("ttfb_us", "bytes_in", "status", "error", "check", "attempt", "flags")]
        buckets = [bucket_of(service), bucket_of(service + dispatch)]
        names = [RUN, SYSTEM, state.scenario, state.action, int(state.kind), "w1", 1]
        expected.append((utc_of_us(int(done)), *names, int(event["user"]), dispatch, service, *numbers, *buckets))
    assert [row[:-1] for row in rows] == expected
    assert [row[-1].bytes for row in rows] == [event["trace_id"].tobytes() for event in frame.events]
    assert await rig.query("SELECT seq, sent, in_flight, waiting FROM sent_counter") == [(1, 700, 1, 2)] * 3


async def test_a_frame_delivered_twice_is_stored_once_and_its_windows_are_published_again(rig: Rig) -> None:
    frame = make_frame(1, events=make_events(20))
    async with rig.collector():
        await rig.publish(frame)
        await rig.settled()
        await rig.publish(frame)
        await rig.settled()
        await eventually(lambda: asyncio.sleep(0, rig.windows()), lambda heard: len(heard) == 2)
    assert await rig.count("request_timing") == 20
    assert await rig.count("frames") == 1
    first, second = rig.windows()
    assert first == second
    headers = [msg.headers["Nats-Msg-Id"] for msg in rig.heard if msg.headers]
    assert headers == [f"{RUN}/w1/1/{SYSTEM}/1"] * 2
    hold("FrameWindows", rig.bodies("window"))


async def test_a_frame_twice_in_one_batch_is_stored_once(rig: Rig) -> None:
    frame = make_frame(1, events=make_events(20))
    await rig.publish(frame, frame)
    async with rig.collector():
        await rig.settled()
    assert await rig.count("request_timing") == 20


async def test_a_frame_that_was_committed_but_never_acknowledged_still_gets_its_windows(rig: Rig) -> None:
    frame = make_frame(1, events=make_events(20))
    store = Timescale(rig.dsn, "test")
    frames = FrameStore(store)
    await frames.write(await frames.prepare([(frame, Measures.of(frame))]))
    await store.close()
    await rig.publish(frame)
    async with rig.collector():
        await rig.settled()
        await eventually(lambda: asyncio.sleep(0, rig.windows()), lambda heard: len(heard) == 1)
    assert await rig.count("request_timing") == 20
    assert sum(cell.count for cell in rig.windows()[0].cells) == 20


async def test_heartbeats_move_the_producer_and_are_announced_in_order(rig: Rig) -> None:
    async with rig.collector():
        await rig.publish(*(make_frame(seq, sent=seq * 10, final=seq == 4) for seq in (1, 2, 3, 4)))
        await rig.settled()
        await eventually(lambda: asyncio.sleep(0, rig.windows()), lambda heard: len(heard) == 4)
    assert [windows.seq for windows in rig.windows()] == [1, 2, 3, 4]
    assert [windows.cells for windows in rig.windows()] == [()] * 4
    assert await rig.query("SELECT last_seq, final FROM producer") == [(4, True)]
    assert await rig.query("SELECT DISTINCT seq, sent FROM sent_counter") == [(4, 40)]


async def test_an_older_frame_that_comes_late_counts_its_rows_and_moves_no_counter_back(rig: Rig) -> None:
    async with rig.collector():
        await rig.publish(make_frame(2, sent=20, events=make_events(5)))
        await rig.settled()
        await rig.publish(make_frame(1, sent=10, events=make_events(5)))
        await rig.settled()
    assert await rig.count("request_timing") == 10
    assert await rig.query("SELECT last_seq FROM producer") == [(2,)]
    assert await rig.query("SELECT DISTINCT seq, sent FROM sent_counter") == [(2, 20)]


async def test_an_event_older_than_spans_are_kept_is_stored_with_its_trace(rig: Rig) -> None:
    """Its collector was away for days; spans are given up sooner than what is yet to come."""
    began = wall_us() - 5 * 86_400_000_000
    async with rig.collector(keep_spans_days=1):
        await rig.publish(make_frame(1, events=make_events(5, flags=1), anchor_wall_us=began))
        await rig.settled()
    assert (await rig.count("request_timing"), await rig.count("request_trace")) == (5, 5)


async def test_workflows_are_rows_of_their_own_kind(rig: Rig) -> None:
    async with rig.collector():
        await rig.publish(make_frame(1, events=make_events(4, action=2)))
        await rig.settled()
    rows = await rig.query("SELECT kind, count(*) FROM request_timing JOIN series USING (series_id) GROUP BY kind")
    assert rows == [(int(Kind.WORKFLOW), 4)]


async def test_a_frame_that_cannot_be_read_or_dated_goes_to_dead_and_the_rest_goes_on(rig: Rig) -> None:
    whole = encode(make_frame(1, events=make_events(5)))
    async with rig.collector():
        await rig.publish_bytes(whole[:-1])
        await rig.publish(make_frame(2, events=make_events(5), anchor_wall_us=1_000_000_000_000_000))
        await rig.publish(make_frame(3, events=make_events(5)))
        await rig.settled()
        await eventually(lambda: asyncio.sleep(0, rig.dead()), lambda heard: len(heard) == 2)
    damaged, old = sorted(rig.dead(), key=lambda letter: letter.sequence)
    assert "checksum does not match" in damaged.reason
    assert "an event is dated 2001-09-09" in old.reason
    assert (damaged.service, damaged.stream) == ("collector", rig.bus.subjects.stream("TIMINGS"))
    hold("DeadLetter", rig.bodies("dead"))
    assert await rig.count("request_timing") == 5


async def test_collectors_share_the_work_and_store_each_frame_once(rig: Rig) -> None:
    frames = [make_frame(seq, worker=worker, events=make_events(20)) for seq in range(1, 41) for worker in ("w1", "w2")]
    stream = rig.bus.subjects.stream("TIMINGS")
    async with rig.collector(), rig.collector(http_port=choose_port("second")):
        await eventually(lambda: rig.bus.js.consumer_info(stream, "collector"), lambda info: info.num_waiting == 2)
        await rig.publish(*frames, *frames[::3])
        await rig.settled()
    assert await rig.count("request_timing") == 1_600
    assert await rig.query("SELECT worker, frames, events FROM producer ORDER BY worker") == [
        ("w1", 40, 800),
        ("w2", 40, 800),
    ]
    assert {(windows.worker, windows.seq) for windows in rig.windows()} == {
        (frame.id.worker, frame.id.seq) for frame in frames
    }


async def test_past_the_limit_of_dead_letters_the_collector_stops_and_leaves_the_stream_alone(rig: Rig) -> None:
    for _ in range(6):
        await rig.publish_bytes(b"no frame at all")
    with pytest.raises(TooManyDeadError, match="more than 2 messages within 60 s could not be processed"):
        async with rig.collector(dead_letters_per_minute=2) as task:
            await asyncio.wait([task], timeout=10)
    await eventually(lambda: asyncio.sleep(0, rig.dead()), lambda heard: len(heard) == 2)
    assert await rig.unsettled() == 4
    # Whatever starts it again does not empty the stream into DEAD by and by.
    with pytest.raises(TooManyDeadError):
        async with rig.collector(dead_letters_per_minute=2) as task:
            await asyncio.wait([task], timeout=10)
    assert len(rig.dead()) == 2
    assert await rig.unsettled() == 4


async def test_a_store_that_goes_away_costs_nothing_and_health_says_why(
    rig: Rig, postgres_server: PostgresServer
) -> None:
    async with rig.collector():
        await rig.publish(make_frame(1, events=make_events(10)))
        await rig.settled()
        postgres_server.kill()
        try:
            await rig.publish(*(make_frame(seq, events=make_events(10)) for seq in range(2, 6)))
            _, reasons = await eventually(rig.health, lambda answer: answer[0] == 503)
            assert [reason for reason in reasons if reason.startswith("store (frames):")]
            assert await rig.unsettled() == 4
        finally:
            # In this thread: the server dies with the thread that started it.
            postgres_server.start()
        await rig.settled()
        await eventually(rig.health, lambda answer: answer == (200, []))
    assert await rig.count("request_timing") == 50
    assert await rig.count("frames") == 5


async def test_frames_held_longer_than_the_deadline_are_not_delivered_again(rig: Rig, postgres_dsn: str) -> None:
    blocker = Timescale(postgres_dsn, "blocker")
    async with rig.collector(ack_wait_s=1.0):
        async with blocker.transaction() as connection:
            await connection.execute("LOCK TABLE frames IN ACCESS EXCLUSIVE MODE")
            await rig.publish(make_frame(1, events=make_events(10)))
            deadline = asyncio.get_running_loop().time() + 1.7
            info = await eventually(
                lambda: rig.bus.js.consumer_info(rig.bus.subjects.stream("TIMINGS"), "collector"),
                lambda _: asyncio.get_running_loop().time() > deadline,
            )
            assert (info.num_ack_pending, info.num_redelivered) == (1, 0)
        await rig.settled()
    await blocker.close()
    assert await rig.count("request_timing") == 10


async def test_a_stop_finishes_what_was_taken_in(rig: Rig) -> None:
    frames = [make_frame(seq, events=make_events(100)) for seq in range(1, 31)]
    async with rig.collector(batch_age_s=5.0):
        await rig.publish(*frames)
        await eventually(
            lambda: rig.bus.js.consumer_info(rig.bus.subjects.stream("TIMINGS"), "collector"),
            lambda info: info.num_ack_pending == 30,
        )
        assert await rig.count("frames") == 0
    assert await rig.unsettled() == 0
    assert await rig.count("request_timing") == 3_000
    assert len(rig.windows()) == 30


@contextlib.asynccontextmanager
async def process(rig: Rig) -> AsyncIterator[asyncio.subprocess.Process]:
    settings = rig.settings().model_dump(mode="json", exclude_none=True)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.collector",
        cwd=ROOT,
        env={**os.environ, **{f"TIDEGATE_{name.upper()}": str(value) for name, value in settings.items()}},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def test_a_collector_killed_in_full_flight_loses_and_doubles_nothing(rig: Rig) -> None:
    published = 0
    enough = asyncio.Event()

    async def publish_some() -> None:
        nonlocal published
        while not enough.is_set():
            published += 1
            await rig.publish(make_frame(published, events=make_events(50), sent=published * 50))
            await asyncio.sleep(0.002)

    async with process(rig) as child:
        await eventually(rig.health, lambda answer: answer[0] == 200, within_s=30)
        publishing = asyncio.create_task(publish_some())
        await eventually(lambda: rig.count("frames"), lambda count: count >= 50)
        child.kill()
        enough.set()
        await publishing
    async with process(rig) as child:
        await rig.settled(within_s=15)
        child.terminate()
        assert await asyncio.wait_for(child.wait(), 10) == 0
    assert await rig.query("SELECT count(*), max(seq) FROM frames") == [(published, published)]
    assert await rig.count("request_timing") == published * 50
    assert {windows.seq for windows in rig.windows()} == set(range(1, published + 1))


async def test_partitions_are_days_of_utc_whatever_the_time_zone_of_the_server(postgres_dsn: str) -> None:
    """Where a summer begins, a day of the server's own zone has 23 hours: the next one overlapped or was missing."""
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        await connection.execute("SET TIME ZONE 'Europe/Berlin'")
        for day in range(27, 32):
            async with connection.transaction():
                await upkeep_postgres.tend(connection, Keeping(), datetime(2027, 3, day, 12, tzinfo=UTC))
        for hour in range(7 * 24):
            await connection.execute(
                "INSERT INTO resource_sample VALUES (%s, 'e', 's', 'y', 'i', true, '{}')",
                (datetime(2027, 3, 26, tzinfo=UTC) + timedelta(hours=hour),),
            )


async def test_identities_of_frames_are_forgotten_once_no_redelivery_can_reach_them(
    rig: Rig, postgres_dsn: str
) -> None:
    async with rig.collector():
        await rig.publish(make_frame(1), make_frame(2))
        await rig.settled()
    await rig.query("UPDATE frames SET committed_at = now() - interval '9 days' WHERE seq = 1 RETURNING seq")
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        assert await ingest.prune_frames(connection, datetime.now(UTC) - FRAMES_KEPT) == 1
    assert await rig.query("SELECT seq FROM frames") == [(2,)]
