"""Wake-ups to the microsecond for everything a worker paces: one kernel timer that the loop listens to.

The loop's own timers count in milliseconds, so that an arrival would be sent half of one late at the median. A timer
of the kernel (``timerfd_create(2)``, Linux) is late by tens of microseconds.
"""

import asyncio
import contextlib
import ctypes
import heapq
import os
import time
from collections.abc import Callable
from itertools import count

from shared.clock import monotonic_us

# Wake-ups closer than this are taken together: what each costs, the requests of a busy worker need.
SLACK_US = 200
_ABSOLUTE = 1
_libc = ctypes.CDLL(None, use_errno=True)


class _Spec(ctypes.Structure):
    """``struct itimerspec``: the interval, which stays 0, and the moment."""

    _fields_ = (
        ("interval_s", ctypes.c_long), ("interval_ns", ctypes.c_long), ("s", ctypes.c_long), ("ns", ctypes.c_long),
    )  # fmt: skip


class Alarm:
    """One wake-up that was asked for; ``cancel`` forgets it."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Alarms:
    """Belongs to the running loop; ``close`` frees its descriptor. Raises ``OSError`` where there is none to be had."""

    def __init__(self) -> None:
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        self._file = _libc.timerfd_create(time.CLOCK_MONOTONIC, flags)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._file, self._ring)
        self._waiting: list[tuple[int, int, Alarm]] = []
        self._order = count()
        self._armed_us: int | None = None
        self._rang_us = 0
        self._ringing = False
        self._spec = _Spec()

    def call_at(self, due_us: int, callback: Callable[[], None]) -> Alarm:
        """Call at a monotonic reading (µs), never before it; in the order of what was due."""
        alarm = Alarm(callback)
        heapq.heappush(self._waiting, (due_us, next(self._order), alarm))
        if not self._ringing and (self._armed_us is None or due_us < self._armed_us):
            self._arm(due_us)
        return alarm

    def close(self) -> None:
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1
            self._waiting.clear()

    def _arm(self, due_us: int) -> None:
        if self._file < 0:
            return
        self._armed_us = at_us = max(due_us, self._rang_us + SLACK_US)
        self._spec.s, self._spec.ns = divmod(at_us * 1_000, 1_000_000_000)
        _libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(self._spec), None)

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._file, 8)
        self._rang_us = now_us = monotonic_us()
        waiting, self._ringing = self._waiting, True
        try:
            while waiting and waiting[0][0] <= now_us:
                callback = heapq.heappop(waiting)[2].callback
                if callback is not None:
                    callback()
        finally:
            self._ringing, self._armed_us = False, None
            if waiting:
                self._arm(waiting[0][0])
