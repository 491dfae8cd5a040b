"""One limit of a search, second by second, and what a stretch of these seconds says of it. Pure.

A percentile and an error rate are shares beyond a limit, everything else is a mean: of times, of readings, of
completions a second. Tests are exact on as many samples as the stretch is worth (``stress_margin.py``).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from services.validator.significance import binomial
from services.validator.stress_limits import Limit
from services.validator.stress_margin import Margin, likeness_of, mean_margin, share_margin
from services.validator.verdict import MIN_STUCK
from shared.contracts.benchmarks import CONFIRM_P, QUANTILES, Source, samples_to_confirm
from shared.contracts.sources import samples_to_confirm_share
from shared.contracts.stress import StepVerdict, StressMargin
from shared.histogram import BASE, Histogram, bucket_of, value_us

SIGNIFICANCE = 0.01
LEAST_SECONDS = 5
ONE_IN = 1e-3
FAR_MEAN = 5
HUNG = 4.0

Floats = NDArray[np.float64]
Seconds = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Track:
    """Sums of each second. ``responses``: histograms of a percentile's times; ``beyond``: what lies beyond the target
    and the critical limit of a share; ``offered``: what was asked for, of a limit that is judged only where enough is;
    ``stuck``: ages of what is not answered yet.
    """

    limit: Limit
    counts: Floats
    sums: Floats
    beyond: tuple[Floats, Floats] | None = None
    responses: Sequence[Mapping[int, int]] = ()
    offered: Floats | None = None
    stuck: Histogram = field(default_factory=Histogram)

    @classmethod
    def of_times(
        cls,
        limit: Limit,
        responses: Sequence[Mapping[int, int]],
        sums_ms: Sequence[float] | Floats,
        stuck: Histogram | None = None,
    ) -> "Track":
        counts = np.array([sum(response.values()) for response in responses], dtype=float)
        sums = np.array(sums_ms, dtype=float)
        if limit.statistic not in QUANTILES:
            return cls(limit, counts, sums, stuck=stuck or Histogram())
        beyond = _above(responses, limit.target), _above(responses, limit.critical)
        return cls(limit, counts, sums, beyond, responses, stuck=stuck or Histogram())

    @classmethod
    def of_failures(cls, limit: Limit, counts: Sequence[float], failed: Sequence[float]) -> "Track":
        bad = np.array(failed, dtype=float)
        return cls(limit, np.array(counts, dtype=float), bad, (bad, bad))

    @classmethod
    def of_readings(cls, limit: Limit, readings: Sequence[float | None], offered: Sequence[float] | None) -> "Track":
        """One reading a second, or none in it; ``offered`` for a limit where higher is better."""
        known = np.array([reading is not None for reading in readings], dtype=float)
        asked = np.array(offered, dtype=float) if offered is not None else None
        return cls(limit, known, np.array([reading or 0.0 for reading in readings]), offered=asked)

    def margin(self, searched: str, seconds: Seconds) -> Margin | None:
        """Against the limit that is ``searched`` (target or critical); None where these seconds say nothing of it."""
        bound, counts, sums = self._bound(searched), self.counts[seconds], self.sums[seconds]
        if not math.isfinite(bound) or counts.sum() < 2 or not self._asked(seconds):
            return None
        if self.beyond is not None:
            beyond = self.beyond[searched == "critical"][seconds]
            return share_margin(counts, beyond, self._allowed(searched), self._likeness(seconds))
        if sums.sum() <= 0 or bound <= 0 or (counts > 0).sum() < 2:
            return None
        margin = mean_margin(counts, sums, bound)
        if not self.limit.higher_better:
            return margin
        return Margin(-margin.margin, margin.error, margin.effective, margin.lasting_s)

    def tell(self, searched: str, seconds: Seconds, margin: Margin) -> StressMargin:
        limit = self.limit
        return StressMargin(
            system=limit.system,
            metric=limit.metric,
            statistic=limit.statistic,
            action=limit.actions[0] if len(limit.actions) == 1 else "",
            unit=limit.unit,
            limit=self._bound(searched),
            value=self._value(seconds),
            verdict=self._verdict(searched, seconds, margin),
            samples=int(self.counts[seconds].sum()),
            effective=round(margin.effective, 1),
            margin=round(margin.margin, 4),
            error=round(margin.error, 4),
        )

    def confirmable(self, seconds: Seconds) -> bool:
        """Whether there are as many samples as it takes to confirm a limit that is kept."""
        limit = self.limit
        least = LEAST_SECONDS
        if limit.source is Source.ERROR_RATE:
            least = samples_to_confirm_share(limit.target)
        elif self.beyond is not None:
            least = samples_to_confirm(limit.statistic)
        return bool(self.counts[seconds].sum() >= least)

    def far_beyond(self, seconds: Seconds, least: int) -> bool:
        """In each of these seconds half of the times lie where, at the very limit, one in a thousand would.

        Waits in a queue have exponential tails, so the share beyond m times a limit is the share beyond it to the
        power of m.
        """
        if self.limit.source not in (Source.RESPONSE_TIME, Source.WORKFLOW_TIME) or self.counts[seconds].sum() < least:
            return False
        q = QUANTILES.get(self.limit.statistic)
        if q is None:
            return bool(np.all(self.sums[seconds] > FAR_MEAN * self.limit.target * self.counts[seconds]))
        far_ms = self.limit.target * math.log(ONE_IN) / math.log(1 - q)
        chosen = [self.responses[second] for second in np.flatnonzero(seconds).tolist()]
        return bool(np.all(_above(chosen, far_ms) > 0.5 * self.counts[seconds]))

    def hung(self, searched: str) -> StressMargin | None:
        """The limit as broken by what waits beyond it, where that is enough to be a hang."""
        worst = self.limit.critical if math.isfinite(self.limit.critical) else self.limit.target
        count = self.stuck.above(worst * 1e3)
        oldest_us = self.stuck.percentile_us(1.0)
        if self.limit.unit != "ms" or count < MIN_STUCK or oldest_us is None:
            return None
        return StressMargin(
            system=self.limit.system,
            metric=self.limit.metric,
            statistic=self.limit.statistic,
            action=self.limit.actions[0] if len(self.limit.actions) == 1 else "",
            unit=self.limit.unit,
            # One that has no critical limit is held to its target, also where critical ones are searched.
            limit=self._bound(searched) if math.isfinite(self._bound(searched)) else worst,
            value=round(oldest_us / 1e3, 3),
            verdict="critical" if math.isfinite(self.limit.critical) else "missed",
            samples=count,
            effective=float(count),
            margin=HUNG,
            error=1.0,
        )

    def _likeness(self, seconds: Seconds) -> float:
        if not self.responses:
            return 1.0
        whole = self._whole(seconds)
        squares = sum(count * (value_us(bucket) / 1e3) ** 2 for bucket, count in whole.counts.items())
        return likeness_of(self.counts[seconds], self.sums[seconds], squares)

    def _whole(self, seconds: Seconds) -> Histogram:
        whole = Histogram()
        for second in np.flatnonzero(seconds).tolist():
            whole.merge(self.responses[second])
        return whole

    def _verdict(self, searched: str, seconds: Seconds, margin: Margin) -> StepVerdict:
        for verdict, limit in (("critical", "critical"), ("missed", "target")):
            worse, better = self._odds(limit, seconds, margin if limit == searched else self.margin(limit, seconds))
            if worse < SIGNIFICANCE:
                return "critical" if verdict == "critical" else "missed"
        return "met" if better <= CONFIRM_P and self.confirmable(seconds) else "insufficient"

    def _odds(self, searched: str, seconds: Seconds, margin: Margin | None) -> tuple[float, float]:
        """How probable it is to look this bad, and this good, at the very limit."""
        if margin is None:
            return 1.0, 1.0
        if self.beyond is None:
            t = margin.margin / margin.error
            freedom = max(1.0, (self.counts[seconds] > 0).sum() / margin.lasting_s - 1)
            return float(stdtr(freedom, -t)), float(stdtr(freedom, t))
        total = float(self.counts[seconds].sum())
        share = float(self.beyond[searched == "critical"][seconds].sum()) / total
        odds = binomial(round(share * margin.effective), max(1, round(margin.effective)), self._allowed(searched))
        return odds.worse, odds.better

    def _asked(self, seconds: Seconds) -> bool:
        return self.offered is None or bool(self.offered[seconds].mean() >= self.limit.target)

    def _bound(self, searched: str) -> float:
        return self.limit.target if searched == "target" else self.limit.critical

    def _allowed(self, searched: str) -> float:
        """Share that may lie beyond: of a percentile its rest, of an error rate the limit itself."""
        q = QUANTILES.get(self.limit.statistic)
        return self._bound(searched) if q is None else 1 - q

    def _value(self, seconds: Seconds) -> float | None:
        q = QUANTILES.get(self.limit.statistic)
        if q is None:
            return round(float(self.sums[seconds].sum() / self.counts[seconds].sum()), 6)
        percentile_us = self._whole(seconds).percentile_us(q)
        return None if percentile_us is None else round(percentile_us / 1e3, 3)


def _above(responses: Sequence[Mapping[int, int]], limit_ms: float) -> Floats:
    """How many of each second lie above a limit; of the limit's own bucket the part above it."""
    if not math.isfinite(limit_ms):
        return np.zeros(len(responses))
    if limit_ms <= 0:
        return np.array([float(sum(response.values())) for response in responses])
    edge = bucket_of(limit_ms * 1e3)
    part = edge + 1 - math.log(limit_ms * 1e3) / math.log(BASE)
    return np.array(
        [sum(c for b, c in response.items() if b > edge) + part * response.get(edge, 0) for response in responses]
    )
