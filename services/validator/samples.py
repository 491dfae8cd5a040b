"""What was measured in one window, in the four shapes a benchmark can be judged from."""

from dataclasses import dataclass, field

from shared.histogram import Histogram, value_us


@dataclass(frozen=True, slots=True)
class Latencies:
    """Times of requests or workflows. ``stuck``: ages of those sent or in line and not yet answered.

    ``sum_us`` is exact, so that a mean is; percentiles are of the histogram.
    """

    response: Histogram
    sum_us: int
    stuck: Histogram = field(default_factory=Histogram)

    @property
    def count(self) -> int:
        return self.response.total

    def with_stuck(self, limit_us: float) -> Histogram:
        """Answered times and those ages already beyond a limit: they will end beyond it whatever happens."""
        whole = Histogram(self.response.counts)
        whole.merge(beyond(self.stuck, limit_us))
        return whole

    def mean_and_variance_ms(self) -> tuple[float, float]:
        """Exact mean; variance (n − 1) about it from the buckets."""
        mean_us = self.sum_us / self.count
        squares = sum(count * (value_us(bucket) - mean_us) ** 2 for bucket, count in self.response.counts.items())
        return mean_us / 1e3, squares / max(1, self.count - 1) / 1e6


def beyond(histogram: Histogram, limit_us: float) -> Histogram:
    """The part of a histogram above a limit, to the resolution of a bucket."""
    edge = Histogram.of([limit_us])
    (bucket,) = edge.counts
    return Histogram({b: count for b, count in histogram.counts.items() if b > bucket})


@dataclass(frozen=True, slots=True)
class Failures:
    """Requests that ended, and those of them that failed."""

    count: int
    failed: int


@dataclass(frozen=True, slots=True)
class Completions:
    """Requests that ended within whole seconds, and how many a second were offered in them."""

    count: int
    seconds: float
    offered_per_s: float


@dataclass(frozen=True, slots=True)
class Readings:
    """One value a second of a resource. ``offered``: the load asked of a demand-limited one, None where unknown.

    ``each``: the readings of the single instances of which ``values`` are the means, where they are known.
    """

    values: tuple[float, ...]
    offered: float | None = None
    each: tuple[float, ...] = ()


Sample = Latencies | Failures | Completions | Readings
