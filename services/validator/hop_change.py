"""How hops changed between the part of a run that kept a benchmark and the part that broke it. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.validator.course import Course
from services.validator.hop_table import TracedCall
from services.validator.hops import Hop, nearest_rank

LEAST_CALLS = 10
"""In each part; fewer say nothing of a p95."""
MOSTLY = 0.5


@dataclass(frozen=True, slots=True)
class HopChange:
    """One hop in both parts. ``p95``: of a call of it; ``path``: mean of what a whole call waited for it."""

    hop: Hop
    kept_calls: int
    broken_calls: int
    kept_p95_ms: float
    broken_p95_ms: float
    kept_path_ms: float
    broken_path_ms: float

    @property
    def factor(self) -> float:
        return self.broken_p95_ms / self.kept_p95_ms if self.kept_p95_ms > 0 else float("inf")

    @property
    def path_rise_ms(self) -> float:
        return self.broken_path_ms - self.kept_path_ms


def part_calls(calls: Iterable[TracedCall], course: Course) -> tuple[list[TracedCall], list[TracedCall]]:
    """The drawn calls that ran wholly while the benchmark was kept, and those that ran mostly while it was broken."""
    kept, broken = [], []
    for call in (call for call in calls if call.drawn):
        share = course.share_broken(call.started_us, call.started_us + call.breakdown.duration_us)
        if share == 0:
            kept.append(call)
        elif share is not None and share >= MOSTLY:
            broken.append(call)
    return kept, broken


def compare_hops(kept: Sequence[TracedCall], broken: Sequence[TracedCall]) -> list[HopChange]:
    """Every hop that enough calls of both parts have, the one that added most to a whole call first."""
    if min(len(kept), len(broken)) < LEAST_CALLS:
        return []
    before, after = _times(kept), _times(broken)
    changes = [
        HopChange(
            hop,
            len(before[hop]),
            len(after[hop]),
            nearest_rank(before[hop], 0.95) / 1e3,
            nearest_rank(after[hop], 0.95) / 1e3,
            path_ms(kept, hop),
            path_ms(broken, hop),
        )
        for hop in sorted(before.keys() & after.keys())
        if min(len(before[hop]), len(after[hop])) >= LEAST_CALLS
    ]
    return sorted(changes, key=lambda change: -change.path_rise_ms)


def path_ms(calls: Sequence[TracedCall], hop: Hop) -> float:
    """What a call waited for a hop, on average over all calls, also those without it."""
    times = (call.breakdown.hops.get(hop) for call in calls)
    return sum(time.path_us for time in times if time) / len(calls) / 1e3 if calls else 0.0


def _times(calls: Iterable[TracedCall]) -> dict[Hop, list[int]]:
    times: dict[Hop, list[int]] = {}
    for call in calls:
        for hop, time in call.breakdown.hops.items():
            times.setdefault(hop, []).extend(time.calls_us)
    return {hop: sorted(calls_us) for hop, calls_us in times.items()}
