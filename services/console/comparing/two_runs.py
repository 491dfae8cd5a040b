"""The difference of a mean between two runs, tested and with an interval. Pure."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from services.console.comparing.dependence import Spread, spread_of_mean
from services.console.comparing.slots import Floats


@dataclass(frozen=True, slots=True)
class Difference:
    """Candidate less base. ``error``: its standard error, with so many degrees of ``freedom`` (Welch,
    Satterthwaite)."""

    value: float
    base: Spread
    candidate: Spread

    @property
    def error(self) -> float:
        return math.sqrt(self.base.variance + self.candidate.variance)

    @property
    def freedom(self) -> float:
        parts = [item for item in (self.base, self.candidate) if item.variance > 0]
        if not parts:
            return math.inf
        return sum(item.variance for item in parts) ** 2 / sum(item.variance**2 / item.freedom for item in parts)

    @property
    def p(self) -> float:
        """How probable a difference this large or larger is, either way, where there is none (Student's t)."""
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return 2 * float(special.stdtr(self.freedom, -abs(self.value) / self.error))

    def margin(self, confidence: float) -> float:
        """Half of the interval that covers the true difference with this confidence."""
        return quantile_of_t(self.freedom, confidence) * self.error


def quantile_of_t(freedom: float, confidence: float) -> float:
    """The two-sided quantile of Student's t; of the normal distribution where ``freedom`` is without end."""
    upper = 0.5 + confidence / 2
    return float(special.ndtri(upper) if math.isinf(freedom) else special.stdtrit(freedom, upper))


def difference_of_scores(
    base: Floats, candidate: Floats, of_base: Floats, of_candidate: Floats | None = None, share: float | None = None
) -> Difference:
    """Of the mean score of a request, whose score is that of its bucket: ``of_base[k]``, ``of_candidate[k]``.

    ``share``: scores are 1 for this share of all requests and 0 for the others, if there is no difference.
    """
    spreads, means = [], []
    for counts, scores in ((base, of_base), (candidate, of_base if of_candidate is None else of_candidate)):
        sums, sizes = counts @ scores, counts.sum(axis=1)
        total = float(sizes.sum())
        mean = float(sums.sum()) / total
        of_one = share * (1 - share) if share is not None else float(counts.sum(axis=0) @ (scores - mean) ** 2) / total
        spreads.append(spread_of_mean(sums, sizes, of_one / total))
        means.append(mean)
    return Difference(means[1] - means[0], *spreads)


def difference_of_counts(
    base: Floats, candidate: Floats, base_sizes: Floats, candidate_sizes: Floats, share: float | None = None
) -> Difference:
    """Of ``sum(counts) / sum(sizes)``; ``share`` as above."""
    spreads, means = [], []
    for counts, sizes in ((base, base_sizes), (candidate, candidate_sizes)):
        total = float(sizes.sum())
        floor = 0.0 if share is None else share * (1 - share) / total
        spreads.append(spread_of_mean(counts, sizes, floor))
        means.append(float(counts.sum()) / total)
    return Difference(means[1] - means[0], *spreads)


def resample(counts: Floats, block: int, times: int, generator: np.random.Generator) -> Floats:
    """Whole runs drawn from this one's blocks of neighbouring slots (moving blocks, round the end): a row each."""
    slots = len(counts)
    blocks = math.ceil(slots / block)
    starts = generator.integers(0, slots, (times, blocks))
    weights = np.zeros((times, slots), np.float64)
    rows = np.arange(times)[:, None]
    for offset in range(block):
        # The last block is cut, so that every draw has as many slots as the run.
        within = blocks - 1 if (blocks - 1) * block + offset >= slots else blocks
        np.add.at(weights, (rows, (starts[:, :within] + offset) % slots), 1.0)
    drawn: Floats = weights @ counts
    return drawn
