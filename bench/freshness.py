"""How soon what happened is known: from a request's ``done`` to its window published, and to its row visible.

A real worker makes 10,000 requests a second of a real server for a while; frames and windows are heard as plain
subscribers hear them, and the store is asked all along which frames are committed.
"""

import asyncio
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
from nats.aio.msg import Msg
from numpy.typing import NDArray

from bench.bars import Bar
from bench.harness import ROUNDS
from bench.latency import ARRIVALS
from bench.nginx import Nginx
from bench.store_rig import ENVIRONMENT, SUBJECTS, StoreRig, store_rig
from bench.workers import Bench
from shared.clock import wall_us
from shared.contracts.frame import decode
from tests.integration.fleet import fleet

RATE, DURATION_S, POLL_S = 10_000, 20.0, 0.02
HOW = (
    f"{RATE:,} requests/s of a real worker for {DURATION_S:g} s, medians of {ROUNDS} rounds; make bench BENCH=freshness"
)


@dataclass(slots=True)
class Heard:
    """Bodies of frames; wall µs at which the windows of a frame were heard and its commit seen, by seq."""

    frames: list[bytes] = field(default_factory=list)
    windows: dict[int, int] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)


def measure() -> list[Bar]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        Path(folder).chmod(0o755)
        target = Nginx(Path(folder) / "nginx")
        target.start()
        try:
            with store_rig(Path(folder)) as rig:
                rig.fresh_database("bench")
                return asyncio.run(_measure(rig, target, Path(folder)))
        finally:
            target.stop()


async def _measure(rig: StoreRig, target: Nginx, folder: Path) -> list[Bar]:
    rounds = []
    with rig.collector():
        async with fleet(rig.nats.url, ENVIRONMENT, folder) as workers:
            ours = Bench(workers, rig.nats)
            await workers.ready("w1")
            for number in range(ROUNDS):
                rounds.append(await _round(rig, ours, target))
                print(
                    f"  round {number + 1}  " + "  ".join(f"{name} {value:.0f}" for name, value in rounds[-1].items())
                )
    limits = {"window published, p99": 500, "row visible, p99": 1_000}
    return [
        Bar(
            f"from done to its {name}",
            float(np.median([one[name] for one in rounds])),
            limits.get(name, 1_000),
            "ms",
            HOW,
        )
        for name in rounds[0]
    ]


async def _round(rig: StoreRig, ours: Bench, target: Nginx) -> dict[str, float]:
    run = ours.wanted(target.url, ARRIVALS, users=200, rate=float(RATE), duration_s=DURATION_S)
    heard, over = Heard(), asyncio.Event()

    async def hear_frame(message: Msg) -> None:
        heard.frames.append(message.data)

    async def hear_window(message: Msg) -> None:
        heard.windows.setdefault(orjson.loads(message.data)["seq"], wall_us())

    client = ours.fleet.client
    listening = [
        await client.subscribe(SUBJECTS.timing(run.run, "*"), cb=hear_frame),
        await client.subscribe(SUBJECTS.window(run.run, "*"), cb=hear_window),
    ]
    watching = asyncio.create_task(asyncio.to_thread(_watch_rows, rig, run.run, heard, over))
    await ours.fleet.ask(run)
    await ours.fleet.until(run.run, lambda state: state.phase.final, DURATION_S + 60)
    for _ in range(100):
        if len(heard.windows) >= len(heard.frames):
            break
        await asyncio.sleep(0.1)
    over.set()
    await watching
    for subscription in listening:
        await subscription.unsubscribe()
    return _figures(heard)


def _watch_rows(rig: StoreRig, run: str, heard: Heard, over: asyncio.Event) -> None:
    """Ask which frames are committed until told to stop; a commit is seen up to ``POLL_S`` late."""
    with rig.connect() as connection:
        while not over.is_set():
            seen = max(heard.rows, default=0)
            rows = connection.execute(
                "SELECT seq FROM frames JOIN producer USING (producer_id) WHERE run = %s AND seq > %s", (run, seen)
            ).fetchall()
            now = wall_us()
            for (seq,) in rows:
                heard.rows.setdefault(seq, now)
            time.sleep(POLL_S)


def _figures(heard: Heard) -> dict[str, float]:
    frames = [frame for frame in map(decode, heard.frames) if len(frame.events)]
    missing = [frame.id.seq for frame in frames if frame.id.seq not in heard.windows or frame.id.seq not in heard.rows]
    if missing:
        raise SystemExit(f"{len(missing)} of {len(frames)} frames were never seen stored and announced")
    found: dict[str, float] = {}
    for name, seen in (("window published", heard.windows), ("row visible", heard.rows)):
        late_ms: NDArray[np.float64] = np.concatenate(
            [(seen[frame.id.seq] - frame.done_wall_us) / 1e3 for frame in frames]
        )
        for q in (50, 99):
            found[f"{name}, p{q}"] = float(np.percentile(late_ms, q, method="inverted_cdf"))
    return found
