"""The one latency scheme of the system: sparse log buckets of base 1.02 over microseconds.

Bucket ``i`` holds values in ``[1.02**i, 1.02**(i+1))`` µs. Its representative is the point with the least worst
relative error, ``2ab/(a+b)`` of the bounds ``a, b``, so a percentile is within (1.02 − 1)/(1.02 + 1) = 0.99 % of
the true nearest-rank value (the argument of DDSketch, Masson et al., VLDB 2019). The bucket of a request is
computed once, at ingest, and stored; the SQL twin is ``histogram_value_us`` in the first migration.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

BASE = 1.02
MAX_US = 3_600_000_000
_LOG_BASE = math.log(BASE)
_REPRESENTATIVE = 2 * BASE / (1 + BASE)
MAX_BUCKET = int(math.log(MAX_US) / _LOG_BASE)


def bucket_of(value_us: float) -> int:
    """Bucket of one duration in µs; below 1 µs counts as 1 µs, above one hour as one hour."""
    if value_us <= 1:
        return 0
    return min(int(math.log(value_us) / _LOG_BASE), MAX_BUCKET)


def buckets_of(values_us: NDArray[np.integer] | NDArray[np.floating]) -> NDArray[np.int16]:
    """Buckets of a whole column; agrees with ``bucket_of`` element for element."""
    buckets: NDArray[np.int16] = np.minimum(np.log(np.maximum(values_us, 1)) / _LOG_BASE, MAX_BUCKET).astype(np.int16)
    return buckets


def value_us(bucket: int) -> float:
    """Representative duration of a bucket in µs."""
    return float(BASE**bucket * _REPRESENTATIVE)


class Histogram:
    """Sparse counts per bucket, merged by addition.

    ``counts`` maps bucket to a positive count. Merging is associative and commutative, so windows of any
    workers, seconds and actions add up to the same whole in any order.
    """

    __slots__ = ("counts",)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: dict[int, int] = dict(counts or {})

    @classmethod
    def of(cls, values_us: Iterable[float]) -> "Histogram":
        histogram = cls()
        for value in values_us:
            histogram.add(bucket_of(value))
        return histogram

    def add(self, bucket: int, count: int = 1) -> None:
        self.counts[bucket] = self.counts.get(bucket, 0) + count

    def merge(self, other: "Histogram | Mapping[int, int]") -> None:
        counts = other.counts if isinstance(other, Histogram) else other
        for bucket, count in counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def percentile_us(self, q: float) -> float | None:
        """Nearest-rank percentile (``percentile_disc``) in µs, ``0 < q <= 1``; None when empty."""
        total = self.total
        if total == 0:
            return None
        rank = max(1, math.ceil(q * total - 1e-9))
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return value_us(bucket)
        raise AssertionError("rank lies within the total")

    def above(self, limit_us: float) -> int:
        """How many values lie above a limit, to the resolution of a bucket (the limit's own bucket is not above)."""
        edge = bucket_of(limit_us)
        return sum(count for bucket, count in self.counts.items() if bucket > edge)
