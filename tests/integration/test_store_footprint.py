"""What the store tells of itself, on plain PostgreSQL and on TimescaleDB."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from shared.contracts.resource import ResourceSample
from shared.store import upkeep_postgres, upkeep_timescale
from shared.store.footprint import read_commits, read_tables
from shared.store.keeping import Keeping
from shared.store.migrations import Side, migrate
from shared.store.samples import save_samples

pytestmark = pytest.mark.integration
HOUR = timedelta(hours=1)


async def test_tables_have_sizes_and_commits_are_told_apart(store_dsn: str) -> None:
    side, now = migrate(store_dsn).side, datetime.now(UTC)
    async with await psycopg.AsyncConnection.connect(store_dsn, autocommit=True) as connection:
        async with connection.transaction():
            if side is Side.TIMESCALE:
                await upkeep_timescale.tend(connection, Keeping())
            else:
                await upkeep_postgres.tend(connection, Keeping(), now)
        begin = now - 2 * HOUR
        samples = [
            ResourceSample(
                service="relaycore", system="relaycore", environment="here", instance="one",
                at=begin + timedelta(seconds=second), values={"cpu_usage": 0.5, "memory_usage": float(second)},
            )
            for second in range(500)
        ]  # fmt: skip
        async with connection.transaction():
            await save_samples(connection, samples)
        await connection.execute(
            "INSERT INTO frames (producer_id, seq, events, committed_at) "
            "SELECT 1, n, 50, %s - (n / 2) * interval '1 second' FROM generate_series(0, 9) AS n",
            (now,),
        )
        tables = {table.table: table for table in await read_tables(connection, Keeping())}
        commits = await read_commits(connection, now - HOUR, now + HOUR)
        nothing = await read_commits(connection, now + HOUR, now + 2 * HOUR)
    assert set(tables) == {"request_timing", "request_trace", "spans", "resource_sample"}
    its = tables["resource_sample"]
    assert its.bytes > 50_000
    assert its.since is not None
    assert its.since <= begin < its.since + timedelta(days=2)
    assert its.compressible == (0 if side is Side.TIMESCALE else None)
    assert (commits.commits, commits.frames, commits.events, commits.span_s) == (5, 10, 500, 4.0)
    assert (nothing.commits, nothing.events, nothing.span_s) == (0, 0, 0.0)
