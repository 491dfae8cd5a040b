"""When the broker took no frames of a run, and what that means for it; pure. ``now_us`` is wall time."""

from collections import deque

from shared.contracts.base import utc_of_us
from shared.contracts.run import HeldBack, Limits

# Refusals closer than this are one time of backpressure; and of how many times the last are remembered.
APART_US = 5_000_000
REMEMBERED = 16


class Backpressure:
    """``times``: the last of them, oldest first."""

    def __init__(self) -> None:
        self._times: deque[HeldBack] = deque(maxlen=REMEMBERED)

    @property
    def times(self) -> tuple[HeldBack, ...]:
        return tuple(self._times)

    def refused(self, now_us: int, waiting: int, spooled: int) -> None:
        """The broker did not take a frame; so many events wait for it in all, and of these on disk."""
        now, last = utc_of_us(now_us), self._times[-1] if self._times else None
        if last is None or (last.until is not None and (now - last.until).total_seconds() * 1e6 > APART_US):
            self._times.append(HeldBack(since=now, waiting=waiting, spooled=spooled))
            return
        most = {"waiting": max(waiting, last.waiting), "spooled": max(spooled, last.spooled)}
        self._times[-1] = last.model_copy(update={"until": None, **most})

    def taken(self, now_us: int) -> None:
        """It took one."""
        if self._times and self._times[-1].until is None:
            self._times[-1] = self._times[-1].model_copy(update={"until": utc_of_us(now_us)})


def reason_to_stop(limits: Limits, spooled_events: int, unspooled_bytes: int, memory_limit_bytes: int) -> str:
    """Why no more load may be made, since its events have nowhere to go; nothing when it may go on.

    ``unspooled_bytes``: what the disk refused to take and memory holds beyond its limit.
    """
    if spooled_events and not limits.spool:
        return f"the broker takes no frames, {spooled_events:,} events are on disk, and this run is not to go on so"
    if unspooled_bytes > memory_limit_bytes:
        return "neither the broker nor the disk takes frames, and memory is full"
    return ""
