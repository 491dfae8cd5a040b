"""Frames for the collector's tests, with as much or as little in them as a test needs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.clock import wall_us
from shared.contracts.frame import ActionState, Frame, FrameId
from shared.contracts.timing import ROW_DTYPE, Kind

RUN = "run-of-test"
SYSTEM = "autmatrix"
ACTIONS = (
    ActionState("login", "authenticate", Kind.REQUEST),
    ActionState("login", "read", Kind.REQUEST),
    ActionState("login", "login", Kind.WORKFLOW),
)


def make_events(count: int, seed: int = 1, **columns: Any) -> NDArray[np.void]:
    """Events spread over the last two seconds before the anchor plus two; named columns are set as given."""
    generator = np.random.default_rng(seed)
    events = np.zeros(count, ROW_DTYPE)
    events["intended_us"] = generator.integers(0, 2_000_000, count)
    events["dispatch_us"] = generator.integers(0, 2_000, count)
    events["service_us"] = generator.lognormal(10, 1, count)
    events["bytes_in"] = generator.integers(0, 5_000, count)
    events["status"] = 200
    events["action"] = generator.integers(0, len(ACTIONS), count)
    events["trace_id"] = generator.integers(0, 256, (count, 16), np.uint8).view("V16").ravel()
    for name, value in columns.items():
        events[name] = value
    return events


def make_frame(
    seq: int = 1,
    *,
    events: NDArray[np.void] | None = None,
    run: str = RUN,
    worker: str = "w1",
    epoch: int = 1,
    system: str = SYSTEM,
    sent: int = 0,
    final: bool = False,
    anchor_wall_us: int | None = None,
) -> Frame:
    return Frame(
        id=FrameId(run, worker, epoch, system, seq),
        anchor_wall_us=wall_us() - 3_000_000 if anchor_wall_us is None else anchor_wall_us,
        anchor_monotonic_us=0,
        watermark_us=2_500_000,
        emitted_us=2_600_000,
        actions=tuple(
            ActionState(state.scenario, state.action, state.kind, sent=sent, in_flight=1, waiting=2, ages={300: 3})
            for state in ACTIONS
        ),
        events=make_events(0) if events is None else events,
        final=final,
    )
