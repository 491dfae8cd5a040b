"""A breach is opened and resolved once whatever dies in the middle of it: the validator, or the broker."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest

from deploy.embedded.nats import NatsServer
from services.validator.app import serve
from services.validator.settings import Settings
from shared.settings import PROJECT_ROOT
from tests.integration.test_validator_breach import Bench, streams_exist, until

pytestmark = pytest.mark.integration


@pytest.fixture
def own_nats(tmp_path: Path) -> NatsServer:
    return NatsServer(tmp_path / "nats")


@pytest.fixture
async def bench(own_nats: NatsServer, environment: str) -> AsyncIterator[Bench]:
    own_nats.start()
    client = await nats.connect(own_nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    try:
        bench = Bench(client, environment)
        await client.subscribe(f"tidegate.{environment}.breach.>", cb=bench.hear)
        yield bench
    finally:
        await client.close()
        own_nats.stop()


async def resolve(bench: Bench) -> None:
    while "resolved" not in bench.statuses:
        assert bench.seq < 600
        await bench.load(1, 50, pace_s=0.05)


def told_once(bench: Bench) -> bool:
    revisions = [event["data"]["revision"] for event in bench.events]
    (episode,) = {event["data"]["breach"] for event in bench.events}
    return bool(episode) and revisions == list(range(1, len(revisions) + 1)) and bench.statuses.count("resolved") == 1


async def test_a_validator_killed_in_the_middle_of_a_breach_is_followed_by_one_that_ends_it(
    bench: Bench, own_nats: NatsServer, postgres_dsn: str
) -> None:
    async def start() -> asyncio.subprocess.Process:
        settings = {
            "TIDEGATE_NATS_URL": own_nats.url,
            "TIDEGATE_ENVIRONMENT": bench.environment,
            "TIDEGATE_STORE_DSN": postgres_dsn,
        }
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.validator", cwd=PROJECT_ROOT, env={**os.environ, **settings}
        )

    first = await start()
    await streams_exist(bench)
    await bench.begin()
    await bench.load(6, 700)
    await until(lambda: "opened" in bench.statuses)
    first.kill()
    await first.wait()
    second = await start()
    try:
        await bench.load(4, 700)
        await resolve(bench)
    finally:
        second.terminate()
        await second.wait()
    assert told_once(bench)


async def test_a_broker_killed_in_the_middle_of_a_breach_changes_nothing_of_it(
    bench: Bench, own_nats: NatsServer, postgres_dsn: str
) -> None:
    stop = asyncio.Event()
    settings = Settings(environment=bench.environment, nats_url=own_nats.url, store_dsn=postgres_dsn)
    validator = asyncio.create_task(serve(settings, stop))
    try:
        await streams_exist(bench)
        await bench.begin()
        await bench.load(6, 700)
        await until(lambda: "opened" in bench.statuses)
        await asyncio.to_thread(own_nats.kill)
        await asyncio.to_thread(own_nats.start)
        await until(lambda: bench.client.is_connected)
        await resolve(bench)
        assert told_once(bench)
        bench.heard.clear()
        await bench.load(6, 700)
        await until(lambda: "opened" in bench.statuses)
    finally:
        stop.set()
        await asyncio.wait_for(validator, 10)
