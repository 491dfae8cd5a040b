"""Seeded memory of one instance: base, noise that remembers, load, garbage collection, a restart, a leak."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from shared.store.figures import MemoryPoint

Floats = NDArray[np.float64]
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
STEP_S = 10.0
"""Samples that lie closer are read as the least of such a step, as the store gives them."""
MEMORY = 0.8
"""Correlation of one sample's noise with the next one's."""
STEADY, DRIVEN, DRIFTING = ("steady",), ("waves", "bursts"), ("ramp", "walk", "step", "bell")


@dataclass(frozen=True, slots=True)
class Shape:
    """MB, seconds, MB per minute. ``load``: how it goes; memory takes ``load_mb`` of it, after ``delay_s``."""

    every_s: float = 5.0
    base_mb: float = 500.0
    noise_mb: float = 20.0
    load: str = "steady"
    load_mb: float = 0.0
    delay_s: float = 0.0
    teeth_mb: float = 0.0
    teeth_s: float = 120.0
    restart_s: float | None = None
    leak_mb_per_min: float = 0.0


def draw_shape(rng: np.random.Generator, load: str, *, teeth: bool) -> Shape:
    """Any instance: 200 MB to 4 GB, sampled each 1 to 15 s, noise of 5 to 50 MB, 20 to 200 MB by load."""
    return Shape(
        every_s=float(rng.choice([1, 2, 5, 10, 15])),
        base_mb=float(rng.uniform(200, 4096)),
        noise_mb=float(rng.uniform(5, 50)),
        load=load,
        load_mb=0.0 if load == "steady" else float(rng.uniform(20, 200)),
        delay_s=float(rng.choice([0, 30, 120])),
        teeth_mb=float(rng.uniform(20, 200)) if teeth else 0.0,
        teeth_s=float(rng.uniform(20, 480)),
    )


def draw_points(rng: np.random.Generator, shape: Shape, minutes: float = 60.0) -> list[MemoryPoint]:
    """What the store would tell of it."""
    at = np.arange(0, minutes * 60, shape.every_s)
    share = _load(rng, shape.load, at)
    followed = _delayed(share, shape.every_s, shape.delay_s)
    since = at if shape.restart_s is None else np.where(at < shape.restart_s, at, at - shape.restart_s)
    memory = (
        shape.base_mb
        + correlated(rng, len(at), MEMORY, shape.noise_mb)
        + shape.load_mb * followed
        + shape.teeth_mb * ((since / shape.teeth_s + rng.uniform()) % 1)
        + shape.leak_mb_per_min * since / 60
    )
    told = np.maximum(0.0, 100 * (0.3 + share) + correlated(rng, len(at), MEMORY, 5.0))
    began = np.zeros(len(at), dtype=bool)
    if shape.restart_s is not None:
        began[int(np.searchsorted(at, shape.restart_s))] = True
    return _stepped(at, np.maximum(memory, 1.0), told, began)


def leaking(shape: Shape, mb_per_min: float = 2.0) -> Shape:
    return replace(shape, leak_mb_per_min=mb_per_min)


def correlated(rng: np.random.Generator, count: int, memory: float, spread: float) -> Floats:
    """First-order autoregressive noise whose standard deviation is ``spread``."""
    drawn = rng.normal(0, spread * np.sqrt(1 - memory**2), count)
    drawn[0] = rng.normal(0, spread)
    return np.asarray(signal.lfilter([1], [1, -memory], drawn))


def _load(rng: np.random.Generator, kind: str, at: Floats) -> Floats:
    """Shares of full load, most of them within 0 to 1."""
    part = at / at[-1]
    every_s = float(at[1] - at[0])
    if kind == "waves":
        return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * (part * rng.uniform(2, 8) + rng.uniform())))
    if kind == "bursts":
        return 0.5 + correlated(rng, len(at), float(np.exp(-every_s / rng.uniform(60, 300))), 0.25)
    if kind == "ramp":
        return np.asarray(part * rng.uniform(0.3, 1))
    if kind == "walk":
        return np.asarray(0.5 + np.cumsum(rng.normal(0, 1, len(at))) / np.sqrt(len(at)))
    if kind == "step":
        return np.where(part > rng.uniform(0.1, 0.9), 1.0, 0.2)
    if kind == "bell":
        return np.asarray(np.exp(-(((part - rng.uniform(0.3, 1)) / 0.3) ** 2)))
    return np.full(len(at), 0.5)


def _delayed(share: Floats, every_s: float, delay_s: float) -> Floats:
    if not delay_s:
        return share
    weight = 1 - np.exp(-every_s / delay_s)
    told, _ = signal.lfilter([weight], [1, weight - 1], share, zi=[share[0] * (1 - weight)])
    return np.asarray(told)


def _stepped(at: Floats, memory: Floats, load: Floats, began: NDArray[np.bool_]) -> list[MemoryPoint]:
    step = np.floor(at / STEP_S).astype(int)
    starts = np.flatnonzero(np.diff(step, prepend=-1))
    least = np.minimum.reduceat(memory, starts)
    mean = np.add.reduceat(load, starts) / np.diff(np.append(starts, len(at)))
    first = np.logical_or.reduceat(began, starts)
    told = zip(at[starts].tolist(), least.tolist(), mean.tolist(), first.tolist(), strict=True)
    return [
        MemoryPoint("relaycore", "relaycore", "relaycore-1", BEGIN + timedelta(seconds=s), memory_mb, None, load, began)
        for s, memory_mb, load, began in told
    ]
