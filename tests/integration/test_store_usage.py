"""What services use, read from a store as the collector fills it: the same on plain PostgreSQL and on TimescaleDB."""

from collections.abc import AsyncIterator
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from shared.contracts.resource import ResourceSample
from shared.store import upkeep_postgres, upkeep_timescale
from shared.store.figures import MemoryPoint, UsageStep
from shared.store.keeping import Keeping
from shared.store.migrations import Side, migrate
from shared.store.samples import save_samples
from shared.store.spans import SpanRow
from shared.store.usage import (
    CLIENT,
    ERROR,
    MINUTE,
    SERVER,
    STEP,
    plan_step,
    read_calls,
    read_memory,
    read_usage,
    read_usage_days,
)

pytestmark = pytest.mark.integration
HERE = "here"
Connection = psycopg.AsyncConnection[Any]


@pytest.fixture
async def connection(store_dsn: str) -> AsyncIterator[Connection]:
    side = migrate(store_dsn).side
    async with await psycopg.AsyncConnection.connect(store_dsn, autocommit=True) as opened:
        await tend(opened, side)
        yield opened


async def tend(connection: Connection, side: Side) -> None:
    async with connection.transaction():
        if side is Side.POSTGRES:
            await upkeep_postgres.tend(connection, Keeping(), datetime.now(UTC))
        else:
            await upkeep_timescale.tend(connection, Keeping())


def sample(at: datetime, instance: str = "relaycore-1", /, **values: float) -> ResourceSample:
    return ResourceSample(
        service="relaycore", system="relaycore", environment=HERE, instance=instance, at=at, values=values
    )


def noon() -> datetime:
    """A whole minute, so long ago that a quarter of an hour after it is past."""
    return datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=20)


async def keep(connection: Connection, samples: list[ResourceSample], at_once: int = 30) -> None:
    """As batches of a collector; what is more at once the server of the other side does not take."""
    for at in range(0, len(samples), at_once):
        await save_samples(connection, samples[at : at + at_once])


async def test_samples_and_minutes_tell_the_same(connection: Connection) -> None:
    begin = noon()
    samples = [
        sample(begin + timedelta(seconds=second), f"relaycore-{one}", cpu_cores=one + second / 100, memory_usage=500.0)
        for second in range(120)
        for one in (1, 2)
    ]
    await keep(connection, samples, 7)
    await save_samples(connection, [sample(begin, cpu_cores=99.0).model_copy(update={"environment": "there"})])

    fine = await read_usage(connection, HERE, begin, begin + timedelta(minutes=15))
    coarse = await read_usage(connection, HERE, begin, begin + timedelta(minutes=16))
    assert [len(fine), len(coarse)] == [2 * 2 * 12, 2 * 2 * 2]
    last = begin + timedelta(seconds=9)
    assert replace(fine[0], mean=round(fine[0].mean, 9)) == UsageStep(
        "relaycore", "relaycore", "relaycore-1", "cpu_cores", begin, 10, 1.045, 1.09, last, 1.0
    )
    first, second = [step for step in coarse if (step.instance, step.metric) == ("relaycore-2", "cpu_cores")]
    assert (first.samples, first.least, second.most) == (60, 2.0, 3.19)
    assert first.mean == pytest.approx(2.295)
    assert second.most_at == begin + timedelta(seconds=119)


async def test_only_the_service_that_is_asked_for_is_read(connection: Connection) -> None:
    begin = noon()
    await save_samples(connection, [sample(begin, cpu_cores=1.0)])
    for span in (timedelta(minutes=10), timedelta(hours=3)):
        until = begin + span
        assert len(await read_usage(connection, HERE, begin, until, service="relaycore")) == 1
        assert await read_usage(connection, HERE, begin, until, service="other") == []
        assert await read_memory(connection, HERE, begin, until) == []


@pytest.mark.parametrize("span", [timedelta(hours=1), timedelta(hours=3)], ids=["of samples", "of minutes"])
async def test_a_new_start_is_told_by_memory_without_rates(connection: Connection, span: timedelta) -> None:
    begin = noon()
    rates = {"cpu_cores": 0.5, "request_rate": 20.0}
    samples = [
        sample(
            begin + timedelta(seconds=second),
            memory_usage=500.0 + second,
            memory_ratio=0.5,
            **({} if second == 300 else rates),
        )
        for second in range(600)
    ]
    await keep(connection, samples)
    points = await read_memory(connection, HERE, begin, begin + span)
    assert [point.at for point in points if point.began] == [begin + timedelta(seconds=300)]
    assert points[0] == MemoryPoint("relaycore", "relaycore", "relaycore-1", begin, 500.0, 0.5, 20.0, False)


async def test_without_any_rate_nothing_begins(connection: Connection) -> None:
    begin = noon()
    await save_samples(connection, [sample(begin + timedelta(seconds=n), memory_usage=500.0) for n in range(30)])
    points = await read_memory(connection, HERE, begin, begin + timedelta(hours=1))
    assert [(point.load, point.began) for point in points] == [(None, False)] * 3


async def test_days_are_told_apart(connection: Connection) -> None:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for minutes, cores in ((-2, 1.0), (-1, 3.0), (0, 5.0)):
        await save_samples(connection, [sample(midnight + timedelta(minutes=minutes), cpu_cores=cores)])
    days = await read_usage_days(
        connection, HERE, midnight - timedelta(days=1), midnight + timedelta(days=1), ["cpu_cores"]
    )
    assert [(day.at, day.minutes, day.mean, day.p95) for day in days] == [
        (midnight - timedelta(days=1), 2, 2.0, 3.0),
        (midnight, 1, 5.0, 5.0),
    ]


def call(number: int, at: datetime, *, server_us: int | None, failed: bool = False) -> list[SpanRow]:
    trace, client = UUID(int=number + 1), (number + 1).to_bytes(8, "big")
    spans = [
        SpanRow(at, trace, client, None, "autmatrix-backend", "POST", CLIENT, 5_000, ERROR if failed else 0,
                {"peer.service": "relaycore", "http.response.body.size": 100})
    ]  # fmt: skip
    if server_us is not None:
        spans.append(SpanRow(at, trace, b"server00", client, "relaycore", "POST", SERVER, server_us, 0))
    return spans


async def test_the_network_is_the_clients_time_less_the_servers(connection: Connection) -> None:
    begin = noon()
    spans = [one for n in range(20) for one in call(n, begin + timedelta(seconds=n), server_us=4_000)]
    spans += call(20, begin, server_us=None, failed=True)
    for span in [*spans, *spans[:2]]:  # row by row: the server of the other side takes no COPY
        await connection.execute(
            "INSERT INTO spans VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [Jsonb(value) if isinstance(value, dict) else value for value in astuple(span)],
        )
    (calls,) = await read_calls(connection, begin, begin + timedelta(minutes=5))
    assert (calls.caller, calls.callee) == ("autmatrix-backend", "relaycore")
    assert (calls.calls, calls.answered, calls.failed) == (21, 20, 1)
    assert (calls.client_us, calls.server_us) == (100_000, 80_000)
    assert sum(calls.network.values()) == 20
    assert (calls.bytes_sent, calls.bytes_received) == (None, 2_100.0)


def test_a_step_is_as_long_as_the_span_needs() -> None:
    assert plan_step(timedelta(minutes=15)) == STEP
    assert plan_step(timedelta(minutes=16)) == MINUTE
    assert plan_step(timedelta(days=30)) == MINUTE * 29


async def test_minutes_past_their_age_are_dropped(connection: Connection, store_dsn: str) -> None:
    old, new = noon() - timedelta(days=95), noon()
    await save_samples(connection, [sample(new, cpu_cores=1.0)])
    await connection.execute(
        "INSERT INTO resource_minute "
        "SELECT environment, service, system, instance, metric, %s, n, total, most, %s, least FROM resource_minute",
        (old, old),
    )
    await tend(connection, migrate(store_dsn).side)
    kept = await read_usage_days(connection, HERE, old - timedelta(days=1), new + MINUTE, ["cpu_cores"])
    assert len(kept) == 1
