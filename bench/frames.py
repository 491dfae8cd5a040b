"""Synthetic frames for benches of the collector and the store: a run of some actions at a rate, as workers cut it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from shared.contracts.frame import ActionState, Frame, FrameId
from shared.contracts.timing import ROW_DTYPE, EventFlag, Kind

ACTIONS = ("authenticate", "create", "execute", "read")
RECORDED_A_SECOND = 100
"""Traces that a run records, as its budget has it."""


@dataclass(slots=True)
class Load:
    """A worker's frames of up to ``per_frame`` events at ``rate`` events/s, from ``began_us`` of the wall clock on.

    Service times are lognormal around 5 ms with σ 0.5, one request in a hundred waits in line before it is sent.
    """

    run: str = "bench-1"
    worker: str = "w1"
    system: str = "target"
    rate: float = 10_000.0
    per_frame: int = 1_000
    began_us: int = field(default_factory=lambda: int(time.time() * 1e6) - 60_000_000)
    seed: int = 1

    def frames(self, events: int) -> Iterator[Frame]:
        """Frames with so many events in all; the last one is final."""
        rng = np.random.default_rng(self.seed)
        count = -(-events // self.per_frame)
        for seq in range(1, count + 1):
            size = min(self.per_frame, events - (seq - 1) * self.per_frame)
            yield self._frame(rng, seq, size, final=seq == count)

    def _frame(self, rng: np.random.Generator, seq: int, size: int, *, final: bool) -> Frame:
        first = (seq - 1) * self.per_frame
        rows = np.zeros(size, ROW_DTYPE)
        rows["intended_us"] = (first + np.arange(size)) * (1e6 / self.rate)
        rows["service_us"] = rng.lognormal(np.log(5_000), 0.5, size)
        rows["ttfb_us"] = rows["service_us"] - rng.integers(10, 100, size)
        rows["dispatch_us"] = np.where(
            rng.random(size) < 0.01, rng.integers(0, 50_000, size), rng.integers(0, 300, size)
        )
        rows["bytes_in"] = 300 + rng.integers(0, 8, size)
        rows["bytes_out"] = 200
        rows["user"] = rng.integers(0, 50, size)
        rows["status"] = 200
        rows["action"] = rng.integers(0, len(ACTIONS), size)
        rows["check"] = 1
        rows["trace_id"] = rng.integers(0, 256, (size, 16), np.uint8).view("V16").ravel()
        rows["flags"] = np.where(rng.random(size) < RECORDED_A_SECOND / self.rate, EventFlag.TRACE_RECORDED, 0)
        done_us = int((rows["intended_us"] + rows["dispatch_us"] + rows["service_us"]).max())
        sent = np.bincount(rows["action"], minlength=len(ACTIONS)) + first // len(ACTIONS)
        return Frame(
            id=FrameId(self.run, self.worker, 1, self.system, seq),
            anchor_wall_us=self.began_us,
            anchor_monotonic_us=0,
            watermark_us=int(rows["intended_us"][-1]),
            emitted_us=done_us,
            actions=tuple(
                ActionState("workflow", name, Kind.REQUEST, int(n), 3, 0, {300: 3})
                for name, n in zip(ACTIONS, sent, strict=True)
            ),
            events=rows,
            final=final,
        )
