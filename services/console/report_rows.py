"""A report as rows of text: the one place that knows its keys. Pure; a key that is absent shows as ``–``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.console.wording import format_ms, format_value

ABSENT = "–"
GOOD = frozenset({"met"})
BAD = frozenset({"missed", "critical"})
Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Dossier:
    """A report with what happened during its run: the last state of each breach, the scaling records in order."""

    report: Report
    breaches: tuple[Mapping[str, Any], ...] = ()
    scaling: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One action: counts, then percentiles of the response time (what a user waited), then the rate."""

    system: str
    scenario: str
    action: str
    sent: str
    stored: str
    missing: str
    duplicates: str
    failed: str
    p50: str
    p95: str
    p99: str
    throughput: str
    is_sound: bool


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One benchmark or gate with its verdict."""

    system: str
    metric: str
    statistic: str
    target: str
    critical: str
    actual: str
    deviation: str
    samples: str
    verdict: str
    reason: str
    test: str
    confidence: str
    score: str
    recommendation: str

    @property
    def tone(self) -> str:
        return tone_of(self.verdict)


@dataclass(frozen=True, slots=True)
class HopRow:
    """One hop of a scenario's calls; ``percent`` (0 to 100) is its share of their critical path."""

    hop: str
    share: str
    percent: float
    calls: str
    p50: str
    p95: str
    path_p95: str


@dataclass(frozen=True, slots=True)
class HopBreakdown:
    """Where the calls of one scenario that crosses systems spent their time, most first."""

    scenario: str
    traces: str
    p50: str
    p95: str
    slowest_hop: str
    rows: list[HopRow]


@dataclass(frozen=True, slots=True)
class Summary:
    """The head of a report."""

    run: str
    verdict: str
    score: str
    coverage: str
    started: str
    ended: str
    phase: str
    reason: str
    system_scores: list[tuple[str, str, str]] = field(default_factory=list)
    """System, score, coverage."""
    critical_issues: list[str] = field(default_factory=list)
    recommendations: list[str] = field(default_factory=list)

    @property
    def tone(self) -> str:
        return tone_of(self.verdict)


def tone_of(verdict: str) -> str:
    """``good``, ``bad`` or ``unsure``."""
    word = verdict.lower()
    return "good" if word in GOOD else "bad" if word in BAD else "unsure"


def summarize(report: Report) -> Summary:
    run = report.get("run") or {}
    return Summary(
        run=text_of(run.get("run")),
        verdict=text_of(report.get("verdict")),
        score=_number(report.get("overall_score"), "{:.0f}"),
        coverage=_number(report.get("coverage"), "{:.0%}"),
        started=format_moment(run.get("started_at")),
        ended=format_moment(run.get("ended_at")),
        phase=text_of(run.get("phase", "")),
        reason=text_of(run.get("reason", "")),
        system_scores=[
            (system, _number(scored.get("score"), "{:.0f}"), _number(scored.get("coverage"), "{:.0%}"))
            for system, scored in (report.get("system_scores") or {}).items()
        ],
        critical_issues=[text_of(item) for item in report.get("critical_issues") or ()],
        recommendations=[text_of(item) for item in report.get("recommendations") or ()],
    )


def list_results(report: Report) -> list[ResultRow]:
    return [_result(row) for row in report.get("results") or ()]


def list_workflows(report: Report) -> list[tuple[str, str, str, str, str, str]]:
    """Scenario, finished, failed, mean, p95, longest."""
    rows = []
    for row in report.get("workflows") or ():
        times = row.get("response_time_ms") or {}
        count, failed = (_number(row.get(key), "{:,}") for key in ("count", "failed"))
        mean, p95, longest = (_ms(times.get(key)) for key in ("mean", "p95", "max"))
        rows.append((text_of(row.get("scenario")), count, failed, mean, p95, longest))
    return rows


def list_streaming(report: Report) -> list[tuple[str, str, str, str, str, str, str]]:
    """Action, streamed answers, tokens, tokens/s of one answer, first token p50 and p95, longest gap p95."""
    rows = []
    for row in report.get("results") or ():
        streaming = row.get("streaming") or {}
        if not streaming:
            continue
        first, gap = streaming.get("time_to_first_token_ms") or {}, streaming.get("longest_gap_ms") or {}
        answers, tokens = (_number(streaming.get(key), "{:,}") for key in ("answers", "tokens"))
        rate = _number(streaming.get("tokens_per_s"), "{:.1f}/s")
        times = (_ms(first.get("p50")), _ms(first.get("p95")), _ms(gap.get("p95")))
        rows.append((text_of(row.get("action")), answers, tokens, rate, *times))
    return rows


def list_generator(report: Report) -> list[tuple[str, ...]]:
    """Per system: at fault, for how many seconds, worst loop lag and schedule error, CPU, most events waiting."""
    systems = (report.get("generator_health") or {}).get("systems") or {}
    return [
        (
            system,
            "yes" if health.get("at_fault") else "no",
            f"{_number(health.get('seconds_at_fault'), '{:,}')} of {_number(health.get('seconds'), '{:,}')}",
            _ms(health.get("worst_loop_lag_ms")),
            _ms(health.get("worst_schedule_error_ms")),
            _number(health.get("highest_cpu"), "{:.0%}"),
            _number(health.get("highest_backlog_events"), "{:,}"),
        )
        for system, health in systems.items()
    ]


def list_comparisons(report: Report) -> list[ComparisonRow]:
    """Benchmarks first, then the scenarios' own gates."""
    rows = [*(report.get("benchmark_comparison") or ()), *(report.get("gates") or ())]
    return [_comparison(row) for row in rows]


def list_hops(report: Report) -> list[HopBreakdown]:
    """One for each scenario whose calls were traced across systems."""
    return [_hops(section) for section in report.get("hops") or ()]


def _hops(section: Mapping[str, Any]) -> HopBreakdown:
    duration = section.get("duration_ms") or {}
    return HopBreakdown(
        scenario=text_of(section.get("scenario")),
        traces=_number(section.get("traces"), "{:,}"),
        p50=_ms(duration.get("p50")),
        p95=_ms(duration.get("p95")),
        slowest_hop=text_of(section.get("slowest_hop")),
        rows=[_hop(row) for row in section.get("hops") or ()],
    )


def _hop(row: Mapping[str, Any]) -> HopRow:
    own, path, share = row.get("own_ms") or {}, row.get("path_ms") or {}, row.get("share")
    return HopRow(
        hop=text_of(row.get("hop")),
        share=_number(share, "{:.1%}"),
        percent=min(100.0, max(0.0, 100.0 * share)) if isinstance(share, int | float) else 0.0,
        calls=_number(row.get("calls"), "{:,}"),
        p50=_ms(own.get("p50")),
        p95=_ms(own.get("p95")),
        path_p95=_ms(path.get("p95")),
    )


def result_totals(report: Report) -> dict[str, int]:
    """Sums over all actions; ``held`` was in flight on a worker that was lost."""
    keys = ("sent", "stored", "held", "missing", "duplicates", "failed")
    return {key: sum(int(row.get(key) or 0) for row in report.get("results") or ()) for key in keys}


def _result(row: Mapping[str, Any]) -> ResultRow:
    times = row.get("response_time_ms") or {}
    return ResultRow(
        system=text_of(row.get("system")),
        scenario=text_of(row.get("scenario")),
        action=text_of(row.get("action")),
        sent=_number(row.get("sent"), "{:,}"),
        stored=_number(row.get("stored"), "{:,}"),
        missing=_number(row.get("missing"), "{:,}"),
        duplicates=_number(row.get("duplicates"), "{:,}"),
        failed=_number(row.get("failed"), "{:,}"),
        p50=_ms(times.get("p50")),
        p95=_ms(times.get("p95")),
        p99=_ms(times.get("p99")),
        throughput=_number(row.get("throughput"), "{:.1f}/s"),
        is_sound=not row.get("missing") and not row.get("failed"),
    )


def _comparison(row: Mapping[str, Any]) -> ComparisonRow:
    unit = text_of(row.get("unit", ""))
    limits = row.get("target"), row.get("critical"), row.get("actual")
    target, critical, actual = (ABSENT if value is None else format_value(float(value), unit) for value in limits)
    return ComparisonRow(
        system=text_of(row.get("system", row.get("scenario"))),
        metric=text_of(row.get("metric")) + (f" ({row['action']})" if row.get("action") else ""),
        statistic=text_of(row.get("statistic", "")),
        target=target,
        critical=critical,
        actual=actual,
        deviation=_number(row.get("deviation"), "{:+.0%}"),
        samples=_number(row.get("samples"), "{:,}"),
        verdict=text_of(row.get("verdict")),
        reason=text_of(row.get("note", "")),
        test=text_of(row.get("test", "value")),
        confidence=_confidence(row.get("confidence")),
        score=_number(row.get("score"), "{:.0f}"),
        recommendation=text_of(row.get("recommendation", "")),
    )


def _confidence(value: Any) -> str:
    """Never rounded up to certainty."""
    if not isinstance(value, int | float) or not value:
        return ABSENT
    return "> 99.99 %" if value > 0.9999 else f"{100 * value:.4g} %"


def text_of(value: Any) -> str:
    return ABSENT if value is None else str(value)


def _ms(value: Any) -> str:
    return ABSENT if value is None else format_ms(float(value))


def _number(value: Any, shape: str) -> str:
    return shape.format(value) if isinstance(value, int | float) else ABSENT


def format_moment(value: Any) -> str:
    try:
        return datetime.fromisoformat(str(value)).strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    except ValueError:
        return text_of(value)
