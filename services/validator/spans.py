"""The sliding window of named spans: per system, name and second, how long they took. Pure.

A message is merged once, by its collector and number. Event time ends with the newest span; what comes late still
counts in its second.
"""

from services.validator.levels import short_seconds
from services.validator.measuring import Measured, recovery_samples
from services.validator.samples import Latencies, Second
from services.validator.tally import worst_of
from shared.contracts.benchmarks import Benchmark
from shared.contracts.span_window import SpanCell, SpanWindows
from shared.contracts.window import Exemplar

KEPT_S = 150
STALE_S = 8
MOST_COLLECTORS = 1_000


class SpanSeconds:
    """All named spans of one environment."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], dict[int, list[SpanCell]]] = {}
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
            if len(seconds) > KEPT_S + 30:
                newest = max(seconds)
                for old in [second for second in seconds if second < newest - KEPT_S]:
                    del seconds[old]
        return True

    def last_second(self, system: str, span: str) -> int | None:
        return max(self._seconds.get((system, span), ()), default=None)

    def lately(self, system: str, span: str, floor_s: int, now_us: int) -> bool:
        """Whether any has ended lately, and after a moment."""
        last_s = self.last_second(system, span)
        return last_s is not None and now_us / 1e6 - last_s <= STALE_S and last_s >= floor_s

    def second(self, system: str, span: str, second: int) -> Second:
        """The sum over what all collectors told of one second."""
        found = Second()
        for cell in self._seconds.get((system, span), {}).get(second, ()):
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

    long = reach(max(1, round(benchmark.window)), benchmark.min_samples)
    short = reach(short_seconds(benchmark), recovery_samples(benchmark))
    return Measured(
        last_s - len(long) + 1,
        last_s,
        min(now_us, (last_s + 1) * 1_000_000),
        Latencies(long[::-1]),
        Latencies(short[::-1]),
        last_s - len(short) + 1,
        worst=spans.worst(system, benchmark.span, last_s - len(long) + 1, last_s),
    )
