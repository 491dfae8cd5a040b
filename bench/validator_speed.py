"""One validator process reading WINDOWS from a real broker: a steady stream, and how fast it catches up with a backlog.

A window is a cell: one action in one second. Workers' frames come five a second and system, and are parsed, merged and
judged as they come; the judge ticks meanwhile.
"""

import asyncio
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import nats
import numpy as np
import psutil
from nats.aio.client import Client
from prometheus_client.parser import text_string_to_metric_families

from bench.bars import Bar
from bench.harness import cpu_s, memory_mb, wait_until
from bench.streams import FRAME_S, Line, Worker
from deploy.embedded.nats import NatsServer
from shared.contracts.run import Load, Phase, RunDesired, RunState
from shared.contracts.scenario import Scenario
from shared.contracts.window import FrameWindows
from shared.settings import PROJECT_ROOT
from shared.subjects import Subjects

ENVIRONMENT, RUN = "bench", "run-of-the-bench"
SYSTEMS = ("autmatrix", "relaycore", "neuroweaver")
WORKERS = int(os.environ.get("TIDEGATE_BENCH_WORKERS", "8"))
WINDOWS_PER_S = int(os.environ.get("TIDEGATE_BENCH_WINDOWS", "5_000"))
STEADY_S = int(os.environ.get("TIDEGATE_BENCH_SECONDS", "30"))
SENT_PER_S = round(1.15 * WINDOWS_PER_S)
"""More than is asked for: a sender that keeps just the pace falls short of it."""
ACTIONS = -(-SENT_PER_S // round(WORKERS * len(SYSTEMS) / FRAME_S))
RATE_PER_ACTION = 20.0
HOW = (
    f"{WORKERS} workers, {len(SYSTEMS)} systems, {ACTIONS} actions each, {SENT_PER_S:,} windows/s for {STEADY_S} s; "
    "make bench BENCH=validator"
)


def measure_speed() -> list[Bar]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        broker = NatsServer(Path(folder) / "nats")
        broker.start()
        try:
            return asyncio.run(_measure(broker))
        finally:
            broker.stop()


async def _measure(broker: NatsServer) -> list[Bar]:
    client = await nats.connect(broker.url)
    try:
        with _validator(broker.url) as (process, port):
            await _told(client)
            began_s = int(time.time())
            bodies = await asyncio.to_thread(_bodies, began_s, STEADY_S)
            frames = sum(len(one) for _, one in bodies)
            began, cpu = time.monotonic(), cpu_s(process.pid)
            for number, (cells, messages) in enumerate(bodies, 1):
                await asyncio.gather(*(client.jetstream().publish(*one) for one in messages))
                print(f"  {number * FRAME_S:.1f} s: {cells} windows", flush=True) if number % 50 == 0 else None
                await asyncio.sleep(max(0.0, began + number * FRAME_S - time.monotonic()))
            published_s = time.monotonic() - began
            await asyncio.to_thread(wait_until, lambda: _merged(port) >= frames, "all frames are merged")
            behind_s = time.monotonic() - began - published_s
            used = (cpu_s(process.pid) - cpu) / (time.monotonic() - began)
            windows = sum(cells for cells, _ in bodies)
            memory = memory_mb(process.pid)
        restarted = await asyncio.to_thread(_restarted, broker.url, windows)
    finally:
        await client.close()
    return [
        Bar("windows a second, published and merged", windows / published_s, WINDOWS_PER_S, "/s", HOW, "at least"),
        Bar("behind when the last was published", behind_s, 1, "s", HOW),
        Bar("cores used by the validator, judging included", used, 0.8, "cores", HOW),
        Bar("resident memory of the validator", memory, 400, "MB", HOW),
        Bar("windows a second read again after a kill", restarted, WINDOWS_PER_S, "/s", HOW, "at least"),
    ]


def _bodies(began_s: int, seconds: int) -> list[tuple[int, list[tuple[str, bytes]]]]:
    """For each fifth of a second how many windows, and the messages they come in."""
    names, step = Subjects(ENVIRONMENT), round(1 / FRAME_S) * seconds
    rounds: list[tuple[int, list[tuple[str, bytes]]]] = [(0, []) for _ in range(step)]
    for worker in range(WORKERS):
        for system in SYSTEMS:
            lines = [Line(f"action-{number}", RATE_PER_ACTION, 20.0, 0.5, 0.001) for number in range(ACTIONS)]
            source = Worker(RUN, system, lines, np.random.default_rng(worker), worker=f"w{worker}", epoch_s=began_s)
            for number, (_, frame) in enumerate(source.frames(0, seconds)):
                cells, messages = rounds[number]
                body = FrameWindows.model_dump_json(frame).encode()
                rounds[number] = cells + len(frame.cells), [*messages, (names.window(RUN, system), body)]
    return rounds


async def _told(client: Client) -> None:
    names, now = Subjects(ENVIRONMENT), datetime.now(UTC)
    steps = [
        {"action": f"action-{number}", "system": system, "path": "/"} for system in SYSTEMS for number in range(ACTIONS)
    ]
    scenario = Scenario.model_validate({"name": "steady", "system": SYSTEMS[0], "steps": steps})
    desired = RunDesired(
        run=RUN,
        environment=ENVIRONMENT,
        generation=1,
        status="running",
        loads=(Load(scenario=scenario, users=1, duration_s=600.0),),
        targets={},
        allowed_hosts=(),
        requested_at=now,
    )
    state = RunState(
        run=RUN, environment=ENVIRONMENT, phase=Phase.RUNNING, generation=1, at=now, coordinator="w0", started_at=now
    )
    await client.jetstream().publish(names.run_desired(RUN), desired.model_dump_json().encode())
    await client.jetstream().publish(names.run_state(RUN), state.model_dump_json().encode())


@contextmanager
def _validator(nats_url: str) -> Iterator[tuple[psutil.Popen, int]]:
    """A validator process that is ready, and the port of its door. The store it is given is nowhere: no run ends."""
    port = 18_439
    settings = {
        "TIDEGATE_NATS_URL": nats_url,
        "TIDEGATE_ENVIRONMENT": ENVIRONMENT,
        "TIDEGATE_STORE_DSN": "postgresql://nobody@127.0.0.1:9/none",
        "TIDEGATE_HTTP_PORT": str(port),
        "TIDEGATE_LOG_LEVEL": "WARNING",
    }
    process = psutil.Popen(
        [sys.executable, "-m", "services.validator"], cwd=PROJECT_ROOT, env={**os.environ, **settings}
    )
    try:
        wait_until(lambda: _merged(port) >= 0, "the validator is up")
        yield process, port
    finally:
        process.kill()
        process.wait()


def _merged(port: int) -> float:
    """Frames merged so far, -1 before the door is open."""
    text = _ask(port, "metrics")
    told = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "tidegate_frames_merged_total"
    ]
    return sum(told) if told else -1


def _restarted(nats_url: str, windows: int) -> float:
    """Windows a second that another process reads again, from when its door opens until it may judge."""
    with _validator(nats_url) as (_, port):
        began = time.monotonic()
        wait_until(lambda: '"ok"' in _ask(port, "health"), "the past is read")
        return windows / (time.monotonic() - began)


def _ask(port: int, page: str) -> str:
    """A page of the validator's door; nothing before it is open."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode())
    except OSError:
        return ""
