"""Whether what is stored is what was sent, to the event, while everything is killed and restarted under the collector.

Five workers' frames are published all along, each until the broker has said that it keeps it, so that some are in the
stream twice. Meanwhile collectors are killed with SIGKILL, PostgreSQL and NATS restarted, each once without a goodbye.
At the end a frame comes once more that is an hour old by then: no broker remembers it.
"""

import asyncio
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nats
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import APIError

from bench.bars import Bar
from bench.frames import ACTIONS, Load
from bench.store_rig import ENVIRONMENT, SUBJECTS, StoreRig, store_rig
from services.collector.timings import CONSUMER
from services.validator.windows import SystemWindows
from shared.bus import open_bus
from shared.clock import wall_us
from shared.contracts.frame import Frame, encode
from shared.contracts.window import FrameWindows

EVENTS = int(os.environ.get("TIDEGATE_BENCH_EVENTS", "5_000_000"))
WORKERS, PER_FRAME, IN_FLIGHT = 5, 1_000, 16
KILLS, RESTARTS = 20, 3
SECONDS = 120.0
"""Publishing is paced over so long, so that there is something to lose at every fault."""
HOW = (
    f"{EVENTS:,} events of {WORKERS} workers over {SECONDS:g} s, {KILLS} SIGKILLs of the collector, {RESTARTS} "
    "restarts each of PostgreSQL and NATS, one of each without a goodbye; make bench BENCH=exactly-once"
)


@dataclass(slots=True)
class Sent:
    """What was published, by action, and one frame kept back to come again."""

    events: Counter[str] = field(default_factory=Counter)
    again: Frame | None = None
    retries: int = 0


def measure() -> list[Bar]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        Path(folder).chmod(0o755)
        with store_rig(Path(folder)) as rig:
            rig.fresh_database("bench")
            return asyncio.run(_measure(rig))


async def _measure(rig: StoreRig) -> list[Bar]:
    sent = Sent()
    async with open_bus(rig.nats.url, ENVIRONMENT, "bench"):
        pass  # the streams are there
    chaos = asyncio.create_task(_break_everything(rig))
    await asyncio.gather(*(_publish(rig, number, sent) for number in range(WORKERS)))
    kills = await chaos
    with rig.collector():
        await asyncio.to_thread(rig.wait_stored, EVENTS)
        await _drained(rig)
        bars = await _compare(rig, sent, "")
        assert sent.again is not None
        await asyncio.to_thread(rig.query, "UPDATE frames SET committed_at = committed_at - interval '1 hour'")
        await _forget_duplicates(rig)
        await asyncio.to_thread(rig.publish, [(SUBJECTS.timing(sent.again.id.run, "target"), encode(sent.again))])
        await _drained(rig)
        bars += await _compare(rig, sent, ", after a redelivery an hour later")
    print(f"  {kills} collectors killed, {sent.retries} frames published again", flush=True)
    return [*bars, Bar("collectors killed", kills, KILLS, "", HOW, "at least")]


async def _publish(rig: StoreRig, number: int, sent: Sent) -> None:
    """One worker: frame after frame, some in flight, each again until it is acknowledged."""
    client = await nats.connect(
        rig.nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=_expected_error
    )
    js = client.jetstream()
    free = asyncio.Semaphore(IN_FLIGHT)
    began = time.monotonic()

    async def deliver(frame: Frame) -> None:
        body = encode(frame)
        while True:
            try:
                await js.publish(SUBJECTS.timing(frame.id.run, frame.id.system), body, timeout=2.0)
            except (NatsError, APIError, TimeoutError):
                sent.retries += 1
                await asyncio.sleep(0.2)
                continue
            free.release()
            return

    count = EVENTS // WORKERS
    tasks = []
    for frame in Load(worker=f"w{number}", seed=number, per_frame=PER_FRAME).frames(count):
        await free.acquire()
        due = began + SECONDS * frame.id.seq * PER_FRAME / count
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        sent.events.update(ACTIONS[number] for number in frame.events["action"])
        sent.again = sent.again or frame
        tasks.append(asyncio.create_task(deliver(frame)))
    await asyncio.gather(*tasks)
    await client.close()


async def _expected_error(_: Exception) -> None:
    """A broker that is restarted on purpose is no news."""


async def _break_everything(rig: StoreRig) -> int:
    """Kill collectors at odd moments of their work and restart their servers in between; how many were killed."""

    def crash_postgres() -> None:
        rig.postgres.kill()
        rig.postgres.start()

    def crash_nats() -> None:
        rig.nats.kill()
        rig.nats.start()

    rng = random.Random(5)
    faults: list[Callable[[], None]] = [
        rig.postgres.restart,
        rig.nats.restart,
        crash_postgres,
        crash_nats,
        rig.postgres.restart,
        rig.nats.restart,
    ]
    assert len(faults) == 2 * RESTARTS
    for number in range(KILLS):
        child = await asyncio.to_thread(rig.start_collector)
        stored = await asyncio.to_thread(rig.stored)
        for _ in range(100):
            if await asyncio.to_thread(rig.stored) > stored:
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(rng.uniform(0.0, 2.5))
        if number % 3 == 2:
            await asyncio.to_thread(faults.pop(0))
            await asyncio.sleep(rng.uniform(0.0, 2.0))
        child.kill()
        await asyncio.to_thread(child.wait, 30)
    return KILLS


async def _drained(rig: StoreRig) -> None:
    """Return when every frame was delivered and acknowledged.

    The consumer is asked, not the stream: a broker that was killed may keep messages that were acknowledged.
    """
    client = await nats.connect(rig.nats.url)
    try:
        js = client.jetstream()
        for _ in range(1_500):
            state = await js.consumer_info(SUBJECTS.stream("TIMINGS"), CONSUMER)
            if not state.num_pending and not state.num_ack_pending:
                return
            await asyncio.sleep(0.2)
        raise SystemExit("frames were still waiting after 300 s")
    finally:
        await client.close()


async def _forget_duplicates(rig: StoreRig) -> None:
    """As if the brokers' window for duplicates had passed."""
    client = await nats.connect(rig.nats.url)
    try:
        js = client.jetstream()
        for name in ("TIMINGS", "WINDOWS"):
            config = (await js.stream_info(SUBJECTS.stream(name))).config
            config.duplicate_window = 0.1
            await js.update_stream(config)
        await asyncio.sleep(0.3)
    finally:
        await client.close()


async def _compare(rig: StoreRig, sent: Sent, when: str) -> list[Bar]:
    rows = await asyncio.to_thread(
        rig.query, "SELECT action, count(*) FROM request_timing JOIN series USING (series_id) GROUP BY 1"
    )
    rolled = await asyncio.to_thread(
        rig.query, "SELECT action, sum(n)::bigint FROM timing_hour JOIN series USING (series_id) GROUP BY 1"
    )
    stored, merged = Counter(dict(rows)), await _merged(rig)
    return [
        Bar(f"{name} and sent differ by{when}", _difference(counts, sent.events), 0, "events", HOW, "exactly")
        for name, counts in (("stored", stored), ("roll-ups", Counter(dict(rolled))), ("windows as merged", merged))
    ]


def _difference(left: Counter[str], right: Counter[str]) -> int:
    return sum(abs(left[action] - right[action]) for action in left | right)


async def _merged(rig: StoreRig) -> Counter[str]:
    """Events by action over everything in WINDOWS, merged as the validator does it."""
    windows, counts = SystemWindows(), Counter[str]()
    client = await nats.connect(rig.nats.url)
    try:
        js = client.jetstream()
        left = (await js.stream_info(SUBJECTS.stream("WINDOWS"))).state.messages
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=60.0)
        reader = await js.pull_subscribe(SUBJECTS.window("*", "*"), stream=SUBJECTS.stream("WINDOWS"), config=config)
        while left:
            messages = await reader.fetch(min(left, 500), timeout=10.0)
            left -= len(messages)
            for message in messages:
                frame = FrameWindows.model_validate_json(message.data)
                if windows.merge(frame, wall_us()):
                    counts.update({cell.action: 0 for cell in frame.cells})
                    for cell in frame.cells:
                        counts[cell.action] += cell.count
    finally:
        await client.close()
    return counts
