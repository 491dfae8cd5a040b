"""What was measured in one window, in the four shapes a benchmark can be judged from."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.histogram import Histogram, bucket_of, value_us


class Second:
    """What ended in one second, over the lines that a benchmark looks at.

    Windows share seconds and are looked at several times a second, so what lies above a limit is counted once.
    """

    __slots__ = ("_above", "count", "failed", "response", "sum_us")

    def __init__(self, response: Histogram | None = None, sum_us: int = 0, failed: int = 0) -> None:
        self.response = response or Histogram()
        self.count = self.response.total
        self.sum_us = sum_us
        self.failed = failed
        self._above: dict[int, int] = {}

    def add(self, response: dict[int, int], count: int, sum_us: int, failed: int) -> None:
        """Take in one line; before anything is counted above a limit."""
        self.response.merge(response)
        self.count += count
        self.sum_us += sum_us
        self.failed += failed

    def above(self, limit_us: float) -> int:
        """``Histogram.above``, remembered."""
        edge = bucket_of(limit_us)
        above = self._above.get(edge)
        if above is None:
            above = self._above[edge] = self.response.above(limit_us)
        return above


@dataclass(frozen=True, slots=True)
class Counted:
    """``above`` of ``count`` lie beyond a limit; ``rest_above`` of ``rest_count`` without the worst second."""

    above: int
    count: int
    rest_above: int
    rest_count: int

    @classmethod
    def of(cls, parts: Sequence[tuple[int, int]]) -> "Counted":
        """From (above, count) of each second."""
        above, count = map(sum, zip(*parts, strict=True)) if parts else (0, 0)
        worst = max(parts, default=(0, 0))
        return cls(above, count, above - worst[0], count - worst[1])

    def lasts(self, share: float) -> bool:
        """Whether more than a share lie beyond the limit also without the worst second and one request more."""
        return self.rest_above > share * self.rest_count + 1


class Latencies:
    """Times of requests or workflows, by second. ``stuck``: ages of those sent or in line and not yet answered.

    Sums are exact, so that a mean is; percentiles are of the histogram.
    """

    __slots__ = ("_response", "count", "seconds", "stuck")

    def __init__(self, seconds: Sequence[Second], stuck: Histogram | None = None) -> None:
        self.seconds = seconds
        self.stuck = stuck or Histogram()
        self.count = sum([second.count for second in seconds])
        self._response: Histogram | None = None

    @classmethod
    def of(cls, response: Histogram, sum_us: int, stuck: Histogram | None = None) -> "Latencies":
        """From sums over a whole window."""
        return cls((Second(response, sum_us),), stuck)

    @property
    def sum_us(self) -> int:
        return sum(second.sum_us for second in self.seconds)

    @property
    def response(self) -> Histogram:
        if self._response is None:
            self._response = Histogram()
            for second in self.seconds:
                self._response.merge(second.response)
        return self._response

    def counted(self, limit_us: float) -> Counted:
        """Beyond a limit. An age already beyond it counts as such (it will end there), with the newest second."""
        parts = [(second.above(limit_us), second.count) for second in self.seconds]
        stuck = self.stuck.above(limit_us)
        if stuck:
            above, count = parts[-1] if parts else (0, 0)
            parts[-1:] = [(above + stuck, count + stuck)]
        return Counted.of(parts)

    def percentile_ms(self, q: float, limit_us: float) -> float | None:
        """Nearest rank over the answered and the ages beyond a limit."""
        whole = Histogram(self.response.counts)
        whole.merge(beyond(self.stuck, limit_us))
        found = whole.percentile_us(q)
        return None if found is None else found / 1e3

    def mean_and_variance_ms(self) -> tuple[float, float]:
        """Exact mean; variance (n − 1) about it from the buckets."""
        mean_us = self.sum_us / self.count
        squares = sum(count * (value_us(bucket) - mean_us) ** 2 for bucket, count in self.response.counts.items())
        return mean_us / 1e3, squares / max(1, self.count - 1) / 1e6


def beyond(histogram: Histogram, limit_us: float) -> Histogram:
    """The part of a histogram above a limit, to the resolution of a bucket."""
    edge = bucket_of(limit_us)
    return Histogram({bucket: count for bucket, count in histogram.counts.items() if bucket > edge})


@dataclass(frozen=True, slots=True)
class Failures:
    """Requests that ended, and those of them that failed; ``worst`` is (failed, count) of the worst second."""

    count: int
    failed: int
    worst: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, seconds: Sequence[Second]) -> "Failures":
        parts = [(second.failed, second.count) for second in seconds]
        return cls(sum(count for _, count in parts), sum(failed for failed, _ in parts), max(parts, default=(0, 0)))

    @property
    def counted(self) -> Counted:
        return Counted(self.failed, self.count, self.failed - self.worst[0], self.count - self.worst[1])


@dataclass(frozen=True, slots=True)
class Completions:
    """Requests that ended within whole seconds, and how many a second were offered in them."""

    count: int
    seconds: float
    offered_per_s: float


@dataclass(frozen=True, slots=True)
class Readings:
    """One value a second of a resource. ``offered``: the load asked of a demand-limited one, None where unknown.

    ``history``: the readings, these included, that tell how they scatter and hang together; left out, these alone.
    """

    values: tuple[float, ...]
    offered: float | None = None
    history: tuple[float, ...] = ()


Sample = Latencies | Failures | Completions | Readings
