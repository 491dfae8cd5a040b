"""One line per load test (a scenario of the run) and the whole distribution of what was timed. Pure."""

import math
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from services.validator.comparison import GateResult
from services.validator.facts import Facts
from services.validator.verdict import Verdict
from shared.contracts.run import ENDLESS_S
from shared.contracts.timing import Kind
from shared.histogram import Histogram
from shared.store.figures import SeriesResult

Json = dict[str, Any]
POINTS_A_DECADE = 8


def list_tests(facts: Facts, gates: Iterable[GateResult]) -> list[Json]:
    """Each scenario over the whole run with nothing excluded; its verdict is that of its own targets, if it has any."""
    by_scenario: dict[str, list[Verdict]] = {}
    for gate in gates:
        by_scenario.setdefault(gate.scenario, []).append(gate.verdict)
    lines = []
    for load in facts.desired.loads:
        series = [one for one in facts.series if one.scenario == load.scenario.name and one.kind is Kind.REQUEST]
        total, failed = sum(one.stored for one in series), sum(one.failed for one in series)
        response = _together(one.response_histogram for one in series)
        started = facts.span.started
        planned = facts.span.ended if load.duration_s >= ENDLESS_S else started + timedelta(seconds=load.duration_s)
        ended = min(facts.span.ended, planned)
        seconds = (ended - started).total_seconds()
        mean = sum((one.response.mean or 0.0) * one.stored for one in series) / total if total else None
        lines.append(
            {
                "name": load.scenario.title or load.scenario.name,
                "scenario": load.scenario.name,
                "total_requests": total,
                "successful_requests": total - failed - sum(one.cancelled for one in series),
                "failed_requests": failed,
                "average_response_time_ms": None if mean is None else round(mean, 3),
                "p95_response_time_ms": _ms(response, 0.95),
                "p99_response_time_ms": _ms(response, 0.99),
                "throughput": total / seconds if seconds > 0 else None,
                "error_rate": failed / total if total else None,
                "started_at": started.isoformat(),
                "ended_at": ended.isoformat(),
                "verdict": _worst(by_scenario.get(load.scenario.name, [])),
            }
        )
    return lines


def list_distributions(facts: Facts) -> list[Json]:
    """The requests of each system and the workflows of each scenario, over the whole run.

    ``points`` are (q, service ms, response ms), as many for each nine of q (HdrHistogram's axis).
    """
    lines: dict[tuple[str, str], list[SeriesResult]] = {}
    for series in facts.series:
        if series.kind is Kind.REQUEST:
            lines.setdefault(("requests", series.system), []).append(series)
        elif series.kind is Kind.WORKFLOW:
            lines.setdefault(("workflows", series.scenario), []).append(series)
    found = []
    for (of, name), listed in sorted(lines.items()):
        service = _together(one.service_histogram for one in listed)
        response = _together(one.response_histogram for one in listed)
        if response.total:
            points = [[round(q, 7), _ms(service, q), _ms(response, q)] for q in _quantiles(response.total)]
            found.append({"of": of, "name": name, "count": response.total, "points": points})
    return found


def _quantiles(count: int) -> Iterator[float]:
    """1 − 10^(−k/8) as far as so many samples reach, then the highest that is one of them."""
    steps = math.floor(POINTS_A_DECADE * math.log10(count) + 1e-9)
    yield from (max(1 - 10 ** (-k / POINTS_A_DECADE), 0.5 / count) for k in range(steps + 1))
    yield 1 - 0.5 / count


def _together(histograms: Iterable[dict[int, int]]) -> Histogram:
    whole = Histogram()
    for histogram in histograms:
        whole.merge(histogram)
    return whole


def _ms(histogram: Histogram, q: float) -> float | None:
    value_us = histogram.percentile_us(q)
    return None if value_us is None else round(value_us / 1e3, 3)


def _worst(verdicts: list[Verdict]) -> str | None:
    order = (Verdict.MISSED, Verdict.INVALID, Verdict.INSUFFICIENT, Verdict.MET)
    return next((verdict.value for verdict in order if verdict in verdicts), None)
