"""The store kept in shape while it is read and written, and after the machine slept."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from services.collector.timescale import Timescale
from services.collector.upkeep import Upkeep
from shared.errors import TransientError
from shared.store.keeping import Keeping
from shared.store.migrations import Side
from tests.integration.collector_rig import eventually

pytestmark = pytest.mark.integration


async def partitions(dsn: str, day: datetime) -> int:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        rows = await connection.execute(
            "SELECT count(to_regclass(t || %s)) FROM unnest(%s::text[]) AS t",
            (f"_p{day:%Y%m%d}", ["request_timing", "spans", "resource_sample"]),
        )
        return int((await rows.fetchall())[0][0])


async def test_partitions_are_made_for_the_day_on_which_a_sleeping_machine_awakes(postgres_dsn: str) -> None:
    today = datetime.now(UTC)
    awake = today + timedelta(days=12)
    clock = [today]
    store = Timescale(postgres_dsn, "upkeep")
    upkeep = Upkeep(store, Keeping(), now=lambda: clock[0], every_s=0.02)
    await upkeep.begin(Side.POSTGRES)
    assert await partitions(postgres_dsn, awake) == 0
    running = asyncio.create_task(upkeep.run())
    clock[0] = awake
    await eventually(lambda: partitions(postgres_dsn, awake), lambda made: made == 3)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await store.close()


async def test_a_long_reader_delays_new_partitions_and_holds_up_nobody_for_long(postgres_dsn: str) -> None:
    later = datetime.now(UTC) + timedelta(days=4)
    store = Timescale(postgres_dsn, "upkeep")
    upkeep = Upkeep(store, Keeping(), now=lambda: later)
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as reader:
        await reader.execute("SELECT FROM request_timing LIMIT 1")
        began = time.monotonic()
        with pytest.raises(TransientError, match="lock timeout"):
            await upkeep.begin(Side.POSTGRES)
        assert time.monotonic() - began < 5
        assert await partitions(postgres_dsn, later) == 0
    await upkeep.begin(Side.POSTGRES)
    assert await partitions(postgres_dsn, later) == 3
    await store.close()
