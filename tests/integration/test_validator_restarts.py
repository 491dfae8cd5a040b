"""A breach is opened and resolved once whatever dies in the middle of it: the validator, the broker, or its disk."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import nats
import psycopg
import pytest
from nats.js.api import DiscardPolicy
from nats.js.errors import NoKeysError
from nats.js.kv import KeyValue

from deploy.embedded.nats import NatsServer
from services.validator.app import serve
from services.validator.settings import Settings
from shared.contracts.breach import Breach, BreachEvent, BreachStatus
from shared.contracts.run import Phase
from shared.reading import read_since
from shared.settings import PROJECT_ROOT
from shared.store.breaches import save_breach
from shared.subjects import Subjects
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


Process = asyncio.subprocess.Process
StartProcess = Callable[[], Awaitable[Process]]


@pytest.fixture
async def start_process(bench: Bench, own_nats: NatsServer, postgres_dsn: str) -> AsyncIterator[StartProcess]:
    """Starts a validator as a process of its own; none outlives the test."""
    started: list[Process] = []

    async def start() -> Process:
        settings = {
            "TIDEGATE_NATS_URL": own_nats.url,
            "TIDEGATE_ENVIRONMENT": bench.environment,
            "TIDEGATE_STORE_DSN": postgres_dsn,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.validator", cwd=PROJECT_ROOT, env={**os.environ, **settings}
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def breached(bench: Bench, start_process: StartProcess) -> Process:
    """A validator of a run whose breach has opened."""
    process = await start_process()
    await streams_exist(bench)
    await bench.begin()
    await bench.load(6, 700)
    await until(lambda: "opened" in bench.statuses)
    return process


async def resolve(bench: Bench, limit: int = 600) -> None:
    while "resolved" not in bench.statuses:
        assert bench.seq < limit
        await bench.load(1, 50, pace_s=0.05)


def told_once(events: list[Breach]) -> bool:
    """One episode, its revisions without a gap or a double, opened once and resolved once."""
    statuses = [event.status for event in events]
    return (
        len({event.breach for event in events}) == 1
        and [event.revision for event in events] == list(range(1, len(events) + 1))
        and statuses.count(BreachStatus.OPENED) == statuses.count(BreachStatus.RESOLVED) == 1
        and statuses[-1] is BreachStatus.RESOLVED
    )


async def keys(bucket: KeyValue) -> list[str]:
    try:
        return list(await bucket.keys())
    except NoKeysError:
        return []


async def kept(bench: Bench) -> list[Breach]:
    """What the stream holds; who listens without it also hears what it refused."""
    names = Subjects(bench.environment)
    messages = await read_since(
        bench.client.jetstream(), names.stream("BREACHES"), names.breach("*", "*", "*"), bench.began - timedelta(days=1)
    )
    return [BreachEvent.model_validate_json(message.data).data for message in messages]


async def test_a_validator_killed_in_the_middle_of_a_breach_is_followed_by_one_that_ends_it(
    bench: Bench, start_process: StartProcess
) -> None:
    first = await breached(bench, start_process)
    first.kill()
    await first.wait()
    await start_process()
    await bench.load(4, 700)
    await resolve(bench)
    assert told_once(await kept(bench))


async def test_validators_killed_again_and_again_tell_one_breach_without_a_gap_or_a_double(
    bench: Bench, start_process: StartProcess
) -> None:
    """Two at a time, one killed at random: as it judges, right after it published, before it had the answer."""
    chance = random.Random(int(os.environ.get("TIDEGATE_TEST_SEED", "7")))
    pair = [await start_process(), await start_process()]
    await streams_exist(bench)
    await bench.begin()
    over = asyncio.Event()

    async def bad_load() -> None:
        while not over.is_set():
            await bench.load(1.5, chance.choice([600, 700, 900, 1_200]), pace_s=0.1)

    loading = asyncio.create_task(bad_load())
    try:
        await until(lambda: "opened" in bench.statuses)
        for _ in range(int(os.environ.get("TIDEGATE_TEST_KILLS", "6"))):
            heard = len(bench.events)
            await until(lambda heard=heard: len(bench.events) > heard, 60)  # type: ignore[misc]
            await asyncio.sleep(chance.choice([0.0, 0.0, 0.001, chance.uniform(0, 0.5)]))
            dead = chance.randrange(2)
            pair[dead].kill()
            await pair[dead].wait()
            pair[dead] = await start_process()
    finally:
        over.set()
        await loading
    await resolve(bench, bench.seq + 600)
    assert told_once(await kept(bench))


async def test_a_validator_frozen_until_another_has_taken_over_adds_nothing_when_it_thaws(
    bench: Bench, start_process: StartProcess
) -> None:
    first = await breached(bench, start_process)
    await start_process()
    first.send_signal(signal.SIGSTOP)
    heard = len(bench.events)
    while len(bench.events) == heard:
        assert bench.seq < 600
        await bench.load(1, 900, pace_s=0.2)
    first.send_signal(signal.SIGCONT)
    await resolve(bench, 900)
    assert told_once(await kept(bench))


async def test_a_lease_lost_for_a_moment_again_and_again_changes_nothing_of_a_breach(
    bench: Bench, start_process: StartProcess
) -> None:
    await breached(bench, start_process)
    leases = await bench.client.jetstream().key_value(Subjects(bench.environment).bucket("leases"))
    for ms in (900, 1_200, 700):
        await leases.delete("validator")
        deadline = asyncio.get_running_loop().time() + 20
        while "validator" not in await keys(leases):
            assert asyncio.get_running_loop().time() < deadline, "nobody took the lease again"
            await bench.load(0.5, ms, pace_s=0.1)
        await bench.load(4, ms, pace_s=0.1)
    await resolve(bench)
    assert told_once(await kept(bench))


async def test_a_run_that_ends_while_nothing_can_be_told_has_its_breach_resolved_all_the_same(
    bench: Bench, start_process: StartProcess
) -> None:
    await breached(bench, start_process)
    js, names = bench.client.jetstream(), Subjects(bench.environment)
    info = await js.stream_info(names.stream("BREACHES"))
    await js.update_stream(info.config.evolve(discard=DiscardPolicy.NEW, max_msgs=info.state.messages))
    await bench.tell(bench.seq / 2, Phase.STOPPED)
    await asyncio.sleep(1)
    await (await js.key_value(names.bucket("leases"))).delete("validator")
    await asyncio.sleep(3)
    await js.update_stream(info.config)
    deadline = asyncio.get_running_loop().time() + 20
    while not told_once(events := await kept(bench)):
        assert asyncio.get_running_loop().time() < deadline, [event.told for event in events]
        await asyncio.sleep(0.1)
    assert events[-1].note == "the run ended (stopped) while the breach was open"


async def test_a_stream_that_takes_nothing_keeps_the_order_and_loses_no_word(
    bench: Bench, start_process: StartProcess
) -> None:
    await breached(bench, start_process)
    js = bench.client.jetstream()
    info = await js.stream_info(Subjects(bench.environment).stream("BREACHES"))
    full = {"discard": DiscardPolicy.NEW, "max_msgs": info.state.messages}
    await js.update_stream(info.config.evolve(**full))
    await bench.load(12, 900)
    assert len(await kept(bench)) == info.state.messages
    await js.update_stream(info.config)
    await resolve(bench)
    events = await kept(bench)
    assert told_once(events)
    assert max(event.value for event in events[:-1]) > 800, "what was judged meanwhile is told"


async def test_a_breach_whose_broker_lost_its_disk_is_ended_from_what_the_store_knows(
    bench: Bench, own_nats: NatsServer, start_process: StartProcess, postgres_dsn: str
) -> None:
    first = await breached(bench, start_process)
    (opened,) = await kept(bench)
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        event = BreachEvent.of(opened, bench.began)
        await save_breach(connection, event, event.model_dump_json())
    await asyncio.to_thread(own_nats.kill)
    shutil.rmtree(own_nats.data / "jetstream")
    await asyncio.to_thread(own_nats.start)
    assert await asyncio.wait_for(first.wait(), 20) == 1, "it is deaf, and says so"
    await until(lambda: bench.client.is_connected)
    await start_process()
    await streams_exist(bench)
    await bench.begin()
    await bench.load(2, 50)
    await resolve(bench)
    assert told_once([opened, *await kept(bench)])


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
        assert told_once(await kept(bench))
        bench.heard.clear()
        await bench.load(6, 700)
        await until(lambda: "opened" in bench.statuses)
    finally:
        stop.set()
        await asyncio.wait_for(validator, 10)
