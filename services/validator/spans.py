"""The sliding window of named spans: per system, name and second, how long they took. Pure.

A message is merged once, by its collector and number. Event time ends with the newest span; what comes late still
counts in its second.
"""

from collections.abc import Sequence

from services.validator.levels import short_seconds
from services.validator.measuring import Measured, recovery_samples
from services.validator.samples import Counted, Latencies, Second
from services.validator.tally import worst_of
from shared.contracts.benchmarks import Benchmark
from shared.contracts.sources import KEPT_S
from shared.contracts.span_window import SpanCell, SpanWindows
from shared.contracts.window import Exemplar

STALE_S = 8
LEAST_BLOCKS = 8
MOST_SPREAD = 50.0
MOST_COLLECTORS = 1_000


class SpanSeconds:
    """All named spans of one environment."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], dict[int, list[SpanCell]]] = {}
        self._sums: dict[tuple[str, str, int], Second] = {}
        self._last_seq: dict[str, int] = {}
        self.version = 0

    def merge(self, windows: SpanWindows) -> bool:
        """Add a message; False, and no change, when it was merged before."""
        if windows.seq <= self._last_seq.get(windows.collector, 0):
            return False
        self.version += 1
        self._last_seq.pop(windows.collector, None)
        self._last_seq[windows.collector] = windows.seq
        if len(self._last_seq) > MOST_COLLECTORS:
            del self._last_seq[next(iter(self._last_seq))]
        for cell in windows.cells:
            seconds = self._seconds.setdefault((windows.system, cell.span), {})
            seconds.setdefault(cell.second, []).append(cell)
            self._sums.pop((windows.system, cell.span, cell.second), None)
            if len(seconds) > KEPT_S + 30:
                newest = max(seconds)
                for old in [second for second in seconds if second < newest - KEPT_S]:
                    del seconds[old]
                    self._sums.pop((windows.system, cell.span, old), None)
        return True

    def last_second(self, system: str, span: str) -> int | None:
        return max(self._seconds.get((system, span), ()), default=None)

    def lately(self, system: str, span: str, floor_s: int, now_us: int) -> bool:
        """Whether any has ended lately, and after a moment."""
        last_s = self.last_second(system, span)
        return last_s is not None and now_us / 1e6 - last_s <= STALE_S and last_s >= floor_s

    def second(self, system: str, span: str, second: int) -> Second:
        """The sum over what all collectors told of one second, remembered until more is told of it."""
        key = (system, span, second)
        found = self._sums.get(key)
        if found is None:
            cells = self._seconds.get((system, span), {}).get(second)
            if cells is None:
                return Second()
            found = self._sums[key] = Second()
            for cell in cells:
                found.add(cell.times, cell.count, cell.sum_us, cell.failed)
        return found

    def worst(self, system: str, span: str, first_s: int, last_s: int) -> tuple[Exemplar, ...]:
        """The slowest spans of some seconds by their traces, slowest first."""
        seconds = self._seconds.get((system, span), {})
        return worst_of(
            exemplar
            for second in range(first_s, last_s + 1)
            for cell in seconds.get(second, ())
            for exemplar in cell.worst
        )


class Clustered(Latencies):
    """Times of which neighbours are alike, as in a queue: so many say as much as ``count`` independent ones.

    ``spread``: how much more counts of whole windows scatter than those of independent times would.
    """

    __slots__ = ("spread",)

    def __init__(self, seconds: Sequence[Second], spread: float) -> None:
        super().__init__(seconds)
        self.spread = spread
        self.count = int(self.count / spread)

    def counted(self, limit_us: float) -> Counted:
        whole = super().counted(limit_us)
        parts = (whole.above, whole.count, whole.rest_above, whole.rest_count)
        return Counted(*(int(part / self.spread) for part in parts))

    def mean_and_variance_ms(self) -> tuple[float, float]:
        return Latencies(self.seconds).mean_and_variance_ms()


def spread_of(history: Sequence[Second], limit_us: float, length: int) -> float:
    """Index of dispersion of what lies above a limit, over blocks as long as a window; 1 where they are independent.

    Of at least ``LEAST_BLOCKS``; what is broken must not be in it, since a step is no scatter.
    """
    blocks = [history[at : at + length] for at in range(0, len(history) - length + 1, length)]
    counts = [(sum(s.above(limit_us) for s in block), sum(s.count for s in block)) for block in blocks]
    counts = [(above, count) for above, count in counts if count]
    total = sum(count for _, count in counts)
    share = sum(above for above, _ in counts) / total if total else 0.0
    if len(counts) < LEAST_BLOCKS or not 0 < share < 1:
        return 1.0
    scatter = sum((above - count * share) ** 2 / (count * share * (1 - share)) for above, count in counts)
    return min(MOST_SPREAD, max(1.0, scatter / (len(counts) - 1)))


def measure_spans(benchmark: Benchmark, spans: SpanSeconds, system: str, floor_s: int, now_us: int) -> Measured | None:
    """Sample of a benchmark on spans; None where none has ended lately."""
    last_s = spans.last_second(system, benchmark.span)
    if last_s is None or not spans.lately(system, benchmark.span, floor_s, now_us):
        return None

    def reach(seconds: int, least: int) -> list[Second]:
        """Newest first: so many seconds, more where they hold fewer than ``least`` spans."""
        found: list[Second] = []
        furthest_s = max(last_s - round(benchmark.max_window) + 1, floor_s)
        for second in range(last_s, furthest_s - 1, -1):
            if len(found) >= seconds and sum(one.count for one in found) >= least:
                break
            found.append(spans.second(system, benchmark.span, second))
        return found

    window_s = max(1, round(benchmark.window))
    before = [
        spans.second(system, benchmark.span, second) for second in range(last_s - KEPT_S + 1, last_s - window_s + 1)
    ]
    spread = spread_of(before, benchmark.target * 1e3, window_s)
    long = reach(window_s, round(benchmark.min_samples * spread))
    short = reach(short_seconds(benchmark), round(recovery_samples(benchmark) * spread))
    return Measured(
        last_s - len(long) + 1,
        last_s,
        min(now_us, (last_s + 1) * 1_000_000),
        Clustered(long[::-1], spread),
        Clustered(short[::-1], spread),
        last_s - len(short) + 1,
        worst=spans.worst(system, benchmark.span, last_s - len(long) + 1, last_s),
    )
