"""The difference of a mean between two runs, tested and with an interval. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
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
    sums, sizes, of_one = [], [], []
    for counts, scores in ((base, of_base), (candidate, of_base if of_candidate is None else of_candidate)):
        sums.append(counts @ scores)
        sizes.append(counts.sum(axis=1))
        centred = scores - sums[-1].sum() / sizes[-1].sum()
        own = float(counts.sum(axis=0) @ centred**2 / sizes[-1].sum())
        of_one.append(own if share is None else share * (1 - share))
    return _difference(sums, sizes, of_one)


def difference_of_counts(
    base: Floats, candidate: Floats, base_sizes: Floats, candidate_sizes: Floats, share: float | None = None
) -> Difference:
    """Of ``sum(counts) / sum(sizes)``; ``share`` as above."""
    of_one = 0.0 if share is None else share * (1 - share)
    return _difference([base, candidate], [base_sizes, candidate_sizes], [of_one, of_one])


def _difference(sums: Sequence[Floats], sizes: Sequence[Floats], of_one: Sequence[float]) -> Difference:
    """``of_one``: the variance of a single request, where these are independent."""
    totals = [float(of.sum()) for of in sizes]
    spreads = [spread_of_mean(sums[i], sizes[i], of_one[i] / totals[i]) for i in (0, 1)]
    return Difference(float(sums[1].sum()) / totals[1] - float(sums[0].sum()) / totals[0], *spreads)


def resample(counts: Floats, block: int, times: int, generator: np.random.Generator) -> Floats:
    """Whole runs drawn from this one's blocks of neighbouring slots (moving blocks, round the end): a row each."""
    slots = len(counts)
    whole, rest = divmod(slots, block)
    weights = _weights(generator.integers(0, slots, (times, whole)), block, slots)
    if rest:
        # A last block is cut, so that every draw has as many slots as the run.
        weights += _weights(generator.integers(0, slots, (times, 1)), rest, slots)
    drawn: Floats = weights @ counts
    return drawn


def _weights(starts: NDArray[np.int64], block: int, slots: int) -> Floats:
    """How often each slot is in the blocks that begin at ``starts``; a draw a row."""
    times = len(starts)
    places = (np.arange(times)[:, None] * slots + starts).ravel()
    begun = np.bincount(places, minlength=times * slots).reshape(times, slots)
    upto = np.concatenate([np.zeros((times, 1)), begun[:, slots - block + 1 :], begun], axis=1).cumsum(axis=1)
    within: Floats = upto[:, block:] - upto[:, :-block]
    return within
