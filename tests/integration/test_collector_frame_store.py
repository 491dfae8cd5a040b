"""Several batches at once into a store that fails meanwhile or is another one: names keep their meaning."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from services.collector.frame_store import FrameStore
from services.collector.measures import Measures
from services.collector.timescale import Timescale
from services.collector.windows import Measured
from shared.contracts.frame import Frame
from shared.errors import TransientError
from tests.unit.collector_frames import make_events, make_frame

pytestmark = pytest.mark.integration

Step = Callable[[], Awaitable[None]]


class Staged(Timescale):
    """A connection that takes a step of the test's at the begin of its next transaction."""

    step: Step | None = None

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        step, self.step = self.step, None
        if step is not None:
            await step()
        async with super().transaction() as connection:
            yield connection


async def fail() -> None:
    raise TransientError("away for a moment")


def measured(*frames: Frame) -> list[Measured]:
    return [(frame, Measures.of(frame)) for frame in frames]


@pytest.fixture
async def stores(postgres_dsn: str) -> AsyncIterator[tuple[Staged, Staged]]:
    opened = Staged(postgres_dsn, "one"), Staged(postgres_dsn, "other")
    yield opened
    for store in opened:
        await store.close()


async def query(dsn: str, sql: str) -> list[tuple[Any, ...]]:
    async with await AsyncConnection.connect(dsn, autocommit=True) as connection:
        return await (await connection.execute(sql.encode())).fetchall()


async def test_names_that_are_resolved_while_another_batch_fails_are_all_there(
    stores: tuple[Staged, Staged], postgres_dsn: str
) -> None:
    one, other = stores
    frames = FrameStore(one, other)
    first = await frames.prepare(measured(make_frame(1, events=make_events(10))))

    async def another_batch_fails() -> None:
        one.step = fail
        with pytest.raises(TransientError):
            await frames.write(first)

    other.step = another_batch_fails
    known_and_new = measured(make_frame(1, events=make_events(10)), make_frame(1, worker="w2", events=make_events(10)))
    await frames.write(await frames.prepare(known_and_new))
    assert await query(
        postgres_dsn,
        "SELECT worker, count(*) FROM request_timing JOIN producer USING (producer_id) GROUP BY 1 ORDER BY 1",
    ) == [("w1", 10), ("w2", 10)]


async def test_ids_of_a_store_that_was_replaced_are_forgotten_whichever_transaction_notices(
    stores: tuple[Staged, Staged], postgres_dsn: str
) -> None:
    frames = FrameStore(*stores)
    known = make_frame(1, events=make_events(10))
    await frames.write(await frames.prepare(measured(known)))
    # Another store, in which the same ids mean something else.
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        await connection.execute("TRUNCATE series, producer, sent_counter, frames, request_timing RESTART IDENTITY")
        await connection.execute(
            "INSERT INTO series (run, system, scenario, action, kind) SELECT 'other', 's', 's', n::text, 0 "
            "FROM generate_series(1, 9) AS n"
        )
        await connection.execute(
            "INSERT INTO producer (run, worker, epoch, system) SELECT 'other', n::text, 1, 's' "
            "FROM generate_series(1, 9) AS n"
        )
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'tidegate%'"
        )
    batch = measured(known, make_frame(1, worker="w2", events=make_events(10)))

    async def stored() -> bool:
        try:
            await frames.write(await frames.prepare(batch))
        except TransientError:
            return False
        return True

    tries = [await stored() for _ in range(4)]
    assert True in tries
    assert await query(
        postgres_dsn,
        "SELECT DISTINCT s.run, p.run, worker FROM request_timing JOIN series s USING (series_id) "
        "JOIN producer p USING (producer_id) ORDER BY worker",
    ) == [(known.id.run, known.id.run, "w1"), (known.id.run, known.id.run, "w2")]


async def test_one_connection_that_failed_is_no_problem_once_another_has_taken_the_batch(
    stores: tuple[Staged, Staged],
) -> None:
    frames = FrameStore(*stores)
    prepared = await frames.prepare(measured(make_frame(1)))
    stores[1].step = fail
    with pytest.raises(TransientError):
        await frames.write(prepared)
    assert frames.problem == "away for a moment"
    await frames.write(await frames.prepare(measured(make_frame(1))))
    assert frames.problem == ""


async def test_two_batches_with_the_same_frames_at_once_store_each_frame_once(
    stores: tuple[Staged, Staged], postgres_dsn: str
) -> None:
    frames = FrameStore(*stores)
    half = [make_frame(seq, events=make_events(10)) for seq in range(1, 5)]
    rest = [make_frame(seq, events=make_events(10)) for seq in range(3, 9)]
    one, other = await frames.prepare(measured(*half)), await frames.prepare(measured(*rest))
    first, second = await asyncio.gather(frames.write(one), frames.write(other))
    assert (first.frames + second.frames, first.redelivered + second.redelivered) == (8, 2)
    assert await query(postgres_dsn, "SELECT count(*) FROM request_timing") == [(80,)]
    assert await query(postgres_dsn, "SELECT sum(n)::int FROM timing_window") == [(80,)]
    assert await query(postgres_dsn, "SELECT last_seq, frames, events FROM producer") == [(8, 8, 80)]


async def test_frames_of_a_collector_that_froze_in_its_transaction_are_free_for_others(
    stores: tuple[Staged, Staged], postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.collector.timescale.FROZEN_AFTER_S", 0.5)
    frozen, other = stores
    frames = FrameStore(other)
    prepared = await frames.prepare(measured(make_frame(1, events=make_events(10))))
    ((producer, seq),) = prepared.frames

    async def freeze() -> None:
        async with frozen.transaction() as connection:
            claim = "INSERT INTO frames (producer_id, seq, events) VALUES (%s, %s, 10)"
            await connection.execute(claim, (producer, seq))
            assert (await frames.write(prepared)).events == 10

    with pytest.raises(TransientError):
        await freeze()
    assert await query(postgres_dsn, "SELECT count(*) FROM request_timing") == [(10,)]
