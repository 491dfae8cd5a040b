"""The broker is killed, refuses or stays away: what was measured is late then, and never lost."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import numpy as np
import pytest

from deploy.embedded.nats import NatsServer
from services.generator.leftovers import publish_leftovers
from services.generator.publisher import Publisher
from shared.contracts.frame import ActionState, Frame, FrameId, decode
from shared.contracts.run import Phase
from shared.contracts.timing import ROW_DTYPE, Kind
from shared.streams import ensure_streams
from shared.subjects import Subjects
from tests.integration.fleet import SCENARIO, desired, fleet
from tests.integration.target import Target
from tests.integration.test_generator_workers import final, sent, stored

pytestmark = pytest.mark.integration


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that the test may kill."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def frame(seq: int, events: int = 20) -> Frame:
    rows = np.zeros(events, ROW_DTYPE)
    return Frame(
        FrameId("run-1", "w1", 1, "shop", seq), 0, 0, 0, 0, (ActionState("things", "look", Kind.REQUEST),), rows
    )


async def test_a_broker_killed_and_restarted_mid_run_loses_nothing(
    own_nats: NatsServer, environment: str, tmp_path: Path
) -> None:
    async with Target() as target, fleet(own_nats.url, environment, tmp_path) as workers:
        await workers.ready("w1", "w2")
        run = desired(target.url, environment, duration_s=4.5)
        await workers.ask(run)
        await workers.until(run.run, lambda s: sent(s) > 50, 20)
        own_nats.kill()
        before = sum(target.counts.values())
        await until(lambda: sum(target.counts.values()) > before + 100)
        own_nats.start()
        state = await workers.until(run.run, final, 20)
        frames = await workers.frames(run.run)
    assert state.phase is Phase.FINISHED
    assert not state.lost
    assert stored(frames) == target.counts
    assert sent(state) == sum(target.counts.values())


async def test_refused_frames_spill_to_disk_and_come_back_in_order(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    client = await nats.connect(nats_url)
    js, subjects = client.jetstream(), Subjects(environment)
    await ensure_streams(js, subjects)
    stream = subjects.stream("TIMINGS")
    config = (await js.stream_info(stream)).config
    await js.update_stream(config, max_bytes=6_000)
    folder = tmp_path / "spool"
    publisher = Publisher(js, subjects, folder / "w1-run-1.spool", 8_000)
    publishing = asyncio.ensure_future(publisher.run())
    leftovers = asyncio.ensure_future(publish_leftovers(js, folder))
    try:
        for seq in range(1, 31):
            publisher.put(frame(seq))
        await until(lambda: publisher.refusals > 0)
        assert 0 < publisher.spooled_events < publisher.backlog_events < 600
        # What it still has in memory and on disk is left there, and published by whoever finds it.
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        publisher.keep()
        await js.update_stream(config, max_bytes=1 << 30)
        subscription = await js.pull_subscribe(subjects.timing("run-1", "shop"), durable="reader", stream=stream)
        got: list[int] = []
        while len(got) < 30:
            for message in await subscription.fetch(30, timeout=5):
                got.append(decode(message.data).id.seq)
                await message.ack()
        await until(lambda: not list(folder.iterdir()))
    finally:
        publishing.cancel()
        leftovers.cancel()
        await asyncio.gather(publishing, leftovers, return_exceptions=True)
        await client.close()
    assert got == list(range(1, 31))


async def test_what_a_worker_could_not_publish_before_it_was_stopped_another_does(
    own_nats: NatsServer, environment: str, tmp_path: Path
) -> None:
    async with Target() as target, fleet(own_nats.url, environment, tmp_path) as workers:
        await workers.ready("w1")
        run = desired(target.url, environment, duration_s=60.0)
        await workers.ask(run)
        await workers.until(run.run, lambda s: sent(s) > 50, 20)
        own_nats.kill()
        await workers.start("w2")
        workers.processes["w1"].terminate()
        assert await asyncio.wait_for(workers.processes["w1"].wait(), 9.5) == 0
        counted = target.counts.copy()
        own_nats.start()
        spool = tmp_path / "spool" / environment
        assert list(spool.iterdir())
        await workers.ask(run.model_copy(update={"generation": 2, "status": "stopped"}))
        await until(lambda: not list(spool.iterdir()))
        frames = await workers.frames(run.run)
    assert stored([frame for frame in frames if frame.id.worker == "w1"]) == counted


async def test_an_iteration_under_way_at_the_end_is_finished_however_long_a_lease_lasts(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    login, create, watch = SCENARIO["steps"]
    slow = SCENARIO | {"steps": [login, create | {"think_time": {"min": "4500ms", "max": "4500ms"}}, watch]}
    async with Target() as target, fleet(nats_url, environment, tmp_path) as workers:
        await workers.ready("w1")
        run = desired(target.url, environment, scenario=slow, users=2, duration_s=0.5)
        await workers.ask(run)
        state = await workers.until(run.run, final, 20)
    assert state.phase is Phase.FINISHED
    assert target.counts == {"things/authenticate": 2, "things/create": 2, "things/watch": 2}


async def test_a_worker_whose_consumers_the_broker_gave_up_hears_of_runs_again(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    async with Target() as target, fleet(nats_url, environment, tmp_path) as workers:
        await workers.ready("w1")
        stream = workers.subjects.stream("RUNS")
        given_up = await workers.js.consumers_info(stream)
        for consumer in given_up:
            await workers.js.delete_consumer(stream, consumer.name)
        assert len(given_up) == 2
        run = desired(target.url, environment, duration_s=1.0)
        await workers.ask(run)
        state = await workers.until(run.run, final, 40)
    assert state.phase is Phase.FINISHED
    assert sum(target.counts.values()) > 0
