"""What could be had by knowing the arrivals of a start-up time ahead, and nothing later. Pure.

It orders, just in time, the fewest replicas that answer everything within the objective, and gives up at once what it
can order again before it is needed. No bound: a policy that errs the right way can be cheaper on one load.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from services.scaler.simulation.course import Setting
from services.scaler.simulation.replicas import Load, Second

LONGEST_BURST_S = 10
HELD_S = 2
SLACK_S = 0.5
"""Replicas are held so much longer, and patience reckoned so much shorter: bursts do not keep to whole seconds."""


class Oracle:
    """Knows the load."""

    def __init__(self, load: Load, setting: Setting) -> None:
        self.needed = _needed(load, setting)
        ahead = int(np.ceil(setting.start_up_s)) + 1
        self._wanted = [int(self.needed[at : at + ahead + 1].max()) for at in range(load.duration_s)]

    def wanted(self, second: Second) -> int:
        return self._wanted[min(second.at_s, len(self._wanted) - 1)]


def _needed(load: Load, setting: Setting) -> NDArray[np.int64]:
    """Replicas by second: n · c · (w + patience) ≥ work of any w seconds, as long as that work and patience last."""
    work = np.bincount(load.arrivals.astype(int), load.services, load.duration_s)
    patience_s = min(max(setting.slo_s - float(load.services.mean()), 0.0), 1.0)
    sums = np.concatenate(([0.0], np.cumsum(work)))
    needed = np.zeros(load.duration_s)
    for width in range(1, min(LONGEST_BURST_S, load.duration_s) + 1):
        burst = (sums[width:] - sums[:-width]) / (setting.concurrency * (width + patience_s - SLACK_S))
        # A burst begins at any second from one width and the time of its answers before to now.
        held = np.concatenate((np.zeros(width + HELD_S - 1), burst, np.zeros(width - 1)))
        needed = np.maximum(needed, sliding_window_view(held, width + HELD_S).max(axis=1))
    return np.ceil(needed - 1e-9).astype(np.int64)
