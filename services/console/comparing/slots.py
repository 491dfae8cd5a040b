"""One action of one run in equal steps of time: how many requests ended in each, by bucket of response time. Pure.

Steps rather than requests are what is compared: they keep the order of time, which tells how much neighbouring requests
are alike, and twenty million requests are a few hundred of them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.histogram import BASE

Floats = NDArray[np.float64]
LOG_BASE = float(np.log(BASE))


@dataclass(frozen=True, slots=True)
class Slots:
    """``counts[s, k]``: requests of slot ``s`` in bucket ``first_bucket + k``; ``failed[s]`` of them failed.

    ``loaded``: the first slot, and the one after the last, in which the load went on from end to end.
    """

    step_s: float
    first_bucket: int
    counts: NDArray[np.int64]
    failed: NDArray[np.int64]
    loaded: tuple[int, int]

    @classmethod
    def of(
        cls,
        slot: NDArray[np.int64],
        bucket: NDArray[np.int64],
        n: NDArray[np.int64],
        failed: NDArray[np.int64],
        *,
        slots: int,
        step_s: float = 1.0,
        loaded: tuple[int, int] | None = None,
    ) -> "Slots":
        """From columns, in any order: ``n`` requests of a ``slot`` and ``bucket``, ``failed`` of which failed."""
        first, last = (int(bucket.min()), int(bucket.max())) if len(bucket) else (0, 0)
        shape = (slots, last - first + 1)
        place = slot * shape[1] + bucket - first
        counts = np.bincount(place, n, minlength=shape[0] * shape[1]).astype(np.int64).reshape(shape)
        errors = np.bincount(slot, failed, minlength=slots).astype(np.int64)
        return cls(step_s, first, counts, errors, loaded or (0, slots))

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def per_slot(self) -> NDArray[np.int64]:
        per_slot: NDArray[np.int64] = self.counts.sum(axis=1)
        return per_slot


def align(base: Slots, candidate: Slots) -> tuple[Floats, Floats, int]:
    """Both counts over the same buckets, and the first of these."""
    both = (base, candidate)
    first = min(item.first_bucket for item in both)
    width = max(item.first_bucket + item.counts.shape[1] for item in both) - first
    aligned = []
    for item in both:
        wide = np.zeros((item.counts.shape[0], width))
        begin = item.first_bucket - first
        wide[:, begin : begin + item.counts.shape[1]] = item.counts
        aligned.append(wide)
    return aligned[0], aligned[1], first


def locate(counts: Floats, q: float) -> Floats:
    """Where the ``q`` quantile of each row lies, in buckets from the first one's lower edge.

    Within a bucket requests are taken to lie evenly (on the scale of logarithms): a nearest rank would move in steps
    of two per cent, which is a good part of what is looked for.
    """
    rows = np.atleast_2d(counts)
    upto = rows.cumsum(axis=1)
    rank = q * upto[:, -1:]
    index = np.minimum((upto < rank).sum(axis=1), rows.shape[1] - 1)[:, None]
    held = np.take_along_axis(rows, index, axis=1)
    before = np.take_along_axis(upto, index, axis=1) - held
    within = np.divide(rank - before, held, out=np.zeros_like(rank), where=held > 0)
    located: Floats = (index + np.clip(within, 0.0, 1.0))[:, 0]
    return located


def to_ms(located: float, first_bucket: int) -> float:
    """A place of ``locate`` as a duration."""
    return float(BASE ** (located + first_bucket) / 1e3)
