"""Which decoded frames the store can take, and in one line why not.

What is refused here belongs to DEAD as a whole: a frame half stored could neither be counted nor sent again.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from services.collector.measures import Measures
from shared.contracts.frame import Frame
from shared.contracts.timing import Check, ErrorKind

_RUN = re.compile(r"[a-z0-9][a-z0-9-]{2,95}")
_SYSTEM = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
# PostgreSQL takes no NUL, and a worker's name goes into a header of NATS.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_INT2, _INT4, _INT8 = 2**15 - 1, 2**31 - 1, 2**63 - 1
# Twice the year 2200 still adds up within 64 bits, and neither date nor sum overflows further on.
_FARTHEST_US = 7_258_118_400_000_000
_MOST = (
    ("user", _INT4), ("tokens", _INT4), ("status", _INT2), ("error", int(max(ErrorKind))), ("check", int(max(Check)))
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Admission:
    """How far an event may lie in the past and in the future of the collector's clock."""

    max_age_s: float
    max_ahead_s: float

    def refuse(self, frame: Frame, measures: Measures, now_us: int) -> str | None:
        """Why this frame cannot be stored; None when it can. ``now_us``: µs since the Unix epoch."""
        return _names(frame) or _numbers(frame) or self._dates(measures.done_us, now_us)

    def _dates(self, done_us: NDArray[np.int64], now_us: int) -> str | None:
        if not len(done_us):
            return None
        first, last = int(done_us.min()), int(done_us.max())
        if first < now_us - self.max_age_s * 1e6:
            return f"an event is dated {_shown(first)}, more than {self.max_age_s:g} s before {_shown(now_us)}"
        if last > now_us + self.max_ahead_s * 1e6:
            return f"an event is dated {_shown(last)}, more than {self.max_ahead_s:g} s after {_shown(now_us)}"
        return None


def _names(frame: Frame) -> str | None:
    if not _RUN.fullmatch(frame.id.run):
        return f"run {frame.id.run!r} is no run id"
    if not _SYSTEM.fullmatch(frame.id.system):
        return f"system {frame.id.system!r} is no system id"
    names = [frame.id.worker, *(name for state in frame.actions for name in (state.scenario, state.action))]
    for name in names:
        if not name or len(name) > 200 or _CONTROL.search(name):
            return f"name {name[:80]!r} is empty, longer than 200 characters or holds a control character"
    return None


def _numbers(frame: Frame) -> str | None:
    if not 1 <= frame.id.seq <= _INT8:
        return f"seq {frame.id.seq} is not within 1 and {_INT8}"
    if frame.id.epoch > _INT8:
        return f"epoch {frame.id.epoch} is above {_INT8}"
    for state in frame.actions:
        if state.sent > _INT8 or max(state.in_flight, state.waiting) > _INT4:
            return (
                f"a counter of action {state.action!r} is too large: {state.sent}, {state.in_flight}, {state.waiting}"
            )
    for name, most in _MOST if len(frame.events) else ():
        if (found := int(frame.events[name].max())) > most:
            return f"{name} {found} of an event is above {most}"
    clocks = (frame.anchor_wall_us, frame.watermark_us, frame.emitted_us)
    if any(abs(clock) > _FARTHEST_US for clock in clocks) or _intended_out_of_reach(frame):
        return f"a time of the frame is out of reach: anchor {clocks[0]}, watermark {clocks[1]}, emitted {clocks[2]} µs"
    return None


def _intended_out_of_reach(frame: Frame) -> bool:
    if not len(frame.events):
        return False
    intended_us = frame.events["intended_us"]
    return int(intended_us.max()) > _FARTHEST_US or int(intended_us.min()) < -_FARTHEST_US


def _shown(wall_us: int) -> str:
    try:
        return datetime.fromtimestamp(wall_us / 1e6, tz=UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{wall_us} µs after 1970"
