"""A window of a canary against the same window of past days: what has drifted, and by how much. Pure.

An hour is judged once, when it is over, and so is a day: the number of judgements a week is known, and each is given
its part of the false alarms a week that one accepts (Bonferroni's inequality, which holds however alike they are). Half
of them go to the hours, half to the days, which come later and show a smaller change. Which days are comparable belongs
to ``canary.py``, the band to ``band.py``.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from services.validator.band import Band, FailureBand, Past
from services.validator.verdict import Verdict
from shared.contracts.benchmarks import QUANTILES
from shared.contracts.breach import DriftMetric
from shared.contracts.timing import Kind
from shared.histogram import BASE
from shared.store.figures import SpanTotals

HOURS_A_WEEK, DAYS_A_WEEK = 168, 7
LEAST_SAMPLES = {"p50": 100, "p95": 200, "p99": 500, "rate": 100}
LEAST_SHARE = 0.25
"""A window with fewer of the usual requests than this is not one of the usual kind."""
LEAST_SPREAD = math.log(BASE) / math.sqrt(12)
"""Days never differ by less than what a bucket leaves open."""

LARGEST = math.log(1e12)
NOTHING = "nothing was measured"

Key = tuple[str, str, str, Kind]


class Grain(StrEnum):
    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class DriftRules:
    """``change``: the least relative change worth telling; ``error_change``: of an error rate, in its own unit.

    ``false_alarms_per_week`` are those of one environment; ``days``: how far back one looks, ``least_days`` of them
    must be comparable.
    """

    false_alarms_per_week: float = 0.5
    change: float = 0.05
    error_change: float = 0.005
    days: int = 56
    least_days: int = 7


@dataclass(frozen=True, slots=True)
class Window:
    """A window of one day: who ran what in ``seconds``; ``weekday`` 0 to 6. An action without a request is absent."""

    weekday: int
    seconds: float
    totals: Mapping[Key, SpanTotals] = field(default_factory=dict)
    _known: dict[tuple[Key, float], float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def log_percentile(self, key: Key, q: float) -> float:
        """Logarithm (of ms) of a percentile of an action; remembered, since many windows are compared with one."""
        known = self._known.get((key, q))
        if known is None:
            known = self._known[key, q] = _log_percentile(self.totals[key], q)
        return known


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure of one action against its past days. ``usual``: what they had; ``limit``: where the band ends.

    ``probability``: of so bad a day or a worse one, were it one of the past ones. ``action`` is empty for what
    concerns a whole scenario.
    """

    system: str
    scenario: str
    action: str
    metric: str
    statistic: str
    unit: str
    value: float | None = None
    usual: float | None = None
    limit: float | None = None
    probability: float = 1.0
    days: int = 0
    samples: int = 0
    verdict: Verdict = Verdict.INSUFFICIENT
    note: str = ""
    improved: bool = False

    @property
    def higher_is_better(self) -> bool:
        return self.metric == DriftMetric.THROUGHPUT


def judge_window(
    now: Window, past: Sequence[Window], grain: Grain, rules: DriftRules, canaries: int = 1
) -> list[Finding]:
    """Every figure of every action of ``now``; ``canaries``: how many share the false alarms."""
    keys = sorted(set(now.totals) | {key for window in past for key in window.totals})
    requests = [key for key in keys if key[3] is Kind.REQUEST]
    scenarios = sorted({(system, scenario) for system, scenario, _, _ in requests})
    figures = max(1, 3 * len(keys) + len(requests) + len(scenarios))
    a_week = HOURS_A_WEEK if grain is Grain.HOUR else DAYS_A_WEEK
    alpha = min(0.05, rules.false_alarms_per_week / 2 / a_week / figures / max(1, canaries))
    comparison = _Comparison(now, past, alpha, rules)
    return [
        *(comparison.percentile(key, statistic) for key in keys for statistic in ("p50", "p95", "p99")),
        *(comparison.errors(key) for key in requests),
        *(comparison.throughput(system, scenario) for system, scenario in scenarios),
    ]


def worst_of(findings: Iterable[Finding]) -> list[Finding]:
    """One finding per action and metric: of its percentiles the least probable one that is broken, else the surest."""
    rank = {Verdict.MISSED: 0, Verdict.MET: 1}
    kept: dict[tuple[str, str, str, str], Finding] = {}
    for one in findings:
        key = (one.system, one.scenario, one.action, one.metric)
        other = kept.get(key)
        order = (rank.get(one.verdict, 2), one.probability)
        if other is None or order < (rank.get(other.verdict, 2), other.probability):
            kept[key] = one
    return list(kept.values())


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One window against its past; a figure less probable than ``alpha`` is out of its band."""

    now: Window
    past: Sequence[Window]
    alpha: float
    rules: DriftRules

    def percentile(self, key: Key, statistic: str) -> Finding:
        system, scenario, action, kind = key
        metric = DriftMetric.WORKFLOW_TIME if kind is Kind.WORKFLOW else DriftMetric.RESPONSE_TIME
        days = self._days(key, LEAST_SAMPLES[statistic])
        blank = Finding(system, scenario, action, metric, statistic, "ms", days=len(days))
        held = self.now.totals.get(key)
        if held is None or (why := self._why_not(held.count, statistic, [told.count for _, told in days])):
            return replace(blank, note=NOTHING if held is None else why)
        q = QUANTILES[statistic]
        values = tuple(window.log_percentile(key, q) for window, _ in days)
        past = Past(values, tuple(window.weekday for window, _ in days), self.now.weekday)
        band = Band.of(past, max(_log_error(held, q), LEAST_SPREAD))
        return self._held_against(blank, self.now.log_percentile(key, q), held.count, band)

    def throughput(self, system: str, scenario: str) -> Finding:
        counts = [(window, _requests(window, system, scenario)) for window in self.past]
        days = [(window, count) for window, count in counts if count >= LEAST_SAMPLES["rate"]]
        blank = Finding(system, scenario, "", DriftMetric.THROUGHPUT, "rate", "requests/s", days=len(days))
        if len(days) < self.rules.least_days:
            return replace(blank, note=_few_days(len(days), self.rules))
        own = _requests(self.now, system, scenario)
        values = tuple(math.log(count / window.seconds) for window, count in days)
        past = Past(values, tuple(window.weekday for window, _ in days), self.now.weekday)
        # Half a request where there was none: so much less than usual that its logarithm does not matter.
        value = math.log(max(own, 0.5) / self.now.seconds)
        return self._held_against(blank, value, own, Band.of(past, 1 / math.sqrt(max(own, 1))))

    def errors(self, key: Key) -> Finding:
        system, scenario, action, _ = key
        days = self._days(key, LEAST_SAMPLES["rate"])
        blank = Finding(system, scenario, action, DriftMetric.ERROR_RATE, "rate", "ratio", days=len(days))
        held = self.now.totals.get(key)
        if held is None or (why := self._why_not(held.count, "rate", [told.count for _, told in days])):
            return replace(blank, note=NOTHING if held is None else why)
        told = [(day.failed, day.count) for _, day in days]
        usual = sum(failed for failed, _ in told) / sum(count for _, count in told)
        value, least = held.failed / held.count, usual + self.rules.error_change
        band = FailureBand.of(held.count, told)
        probability, limit = band.above(held.failed), band.limit(self.alpha) / held.count
        return replace(
            blank,
            value=value,
            usual=usual,
            limit=min(1.0, max(limit, least)),
            probability=probability,
            samples=held.count,
            verdict=Verdict.MISSED if probability < self.alpha and value >= least else Verdict.MET,
        )

    def _held_against(self, blank: Finding, own: float, samples: int, band: Band) -> Finding:
        """A logarithm against its band: both beyond it and by more than what matters."""
        least, up, down = math.log(1 + self.rules.change), band.above(own), band.below(own)
        higher = up < self.alpha and own >= band.usual + least
        lower = down < self.alpha and own <= band.usual - least
        if blank.higher_is_better:
            broken, improved, limit = lower, higher, min(band.lower(self.alpha), band.usual - least)
        else:
            broken, improved, limit = higher, lower, max(band.upper(self.alpha), band.usual + least)
        return replace(
            blank,
            value=math.exp(own),
            usual=math.exp(band.usual),
            # A band of few days may end nowhere.
            limit=math.exp(min(limit, LARGEST)),
            probability=down if blank.higher_is_better else up,
            samples=samples,
            verdict=Verdict.MISSED if broken else Verdict.MET,
            improved=improved,
        )

    def _days(self, key: Key, least: int) -> list[tuple[Window, SpanTotals]]:
        """The past days on which this was measured well enough."""
        days = [(window, window.totals[key]) for window in self.past if key in window.totals]
        return [(window, told) for window, told in days if told.count >= least]

    def _why_not(self, count: int, statistic: str, past: Sequence[int]) -> str:
        if len(past) < self.rules.least_days:
            return _few_days(len(past), self.rules)
        usual, least = sorted(past)[len(past) // 2], LEAST_SAMPLES[statistic]
        if count < max(least, LEAST_SHARE * usual):
            return f"{count} requests, where past days had {usual} and {least} are needed"
        return ""


def _few_days(days: int, rules: DriftRules) -> str:
    return f"{days} past days can be compared with, {rules.least_days} are needed"


def _requests(window: Window, system: str, scenario: str) -> int:
    return sum(
        told.count
        for (its_system, its_scenario, _, kind), told in window.totals.items()
        if (its_system, its_scenario, kind) == (system, scenario, Kind.REQUEST)
    )


def _log_percentile(told: SpanTotals, q: float) -> float:
    """Logarithm (of ms) of a percentile, between the edges of its bucket by rank.

    What is told elsewhere is the bucket; here days that differ by less than a bucket must not look the same.
    """
    rank, seen = q * told.count, 0
    for bucket in sorted(told.response):
        held = told.response[bucket]
        if seen + held >= rank:
            return (bucket + (rank - seen) / held) * math.log(BASE) - math.log(1e3)
        seen += held
    return 0.0


def _log_error(told: SpanTotals, q: float) -> float:
    """Standard error of that logarithm, by the values at the ranks that lie as far away."""
    away = math.sqrt(q * (1 - q) / told.count)
    return (_log_percentile(told, min(1.0, q + away)) - _log_percentile(told, max(0.0, q - away))) / 2
