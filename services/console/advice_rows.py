"""A report's recommendations and load tests as rows of text. Pure; a key that is absent shows as ``–``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.console.report_rows import Report, format_moment, text_of, tone_of
from services.console.wording import format_ms, format_value


@dataclass(frozen=True, slots=True)
class AdviceRow:
    """One recommendation with the rule it comes from, what that rests on, and what else points there."""

    text: str
    rule: str
    about: str
    evidence: list[tuple[str, str]]
    supported_by: list[tuple[str, str]]
    """Rule and text."""


@dataclass(frozen=True, slots=True)
class LoadTestRow:
    """One load test; ``verdict`` is that of its own targets, – where it has none."""

    name: str
    total: str
    successful: str
    failed: str
    average: str
    p95: str
    p99: str
    throughput: str
    error_rate: str
    started: str
    ended: str
    verdict: str

    @property
    def tone(self) -> str:
        return tone_of(self.verdict)


def list_advice(report: Report) -> list[AdviceRow]:
    """With details where the report has them, else the bare sentences."""
    details = report.get("recommendation_details")
    if details is None:
        return [AdviceRow(text_of(text), "", "", [], []) for text in report.get("recommendations") or ()]
    return [_advice(detail) for detail in details]


def list_load_tests(report: Report) -> list[LoadTestRow]:
    return [_load_test(row) for row in report.get("tests") or ()]


def _advice(detail: Mapping[str, Any]) -> AdviceRow:
    about = (detail.get(key) for key in ("system", "scenario", "metric"))
    return AdviceRow(
        text_of(detail.get("text")),
        text_of(detail.get("rule")),
        " ".join(str(part) for part in about if part),
        [(str(name).replace("_", " "), _figure(value)) for name, value in (detail.get("evidence") or {}).items()],
        [(text_of(one.get("rule")), text_of(one.get("text"))) for one in detail.get("supported_by") or ()],
    )


def _figure(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else text_of(value)


def _load_test(row: Mapping[str, Any]) -> LoadTestRow:
    total, successful, failed = (
        _number(row.get(f"{kind}_requests"), "{:,}") for kind in ("total", "successful", "failed")
    )
    times = (row.get(f"{of}_response_time_ms") for of in ("average", "p95", "p99"))
    average, p95, p99 = ("–" if value is None else format_ms(float(value)) for value in times)
    error_rate = row.get("error_rate")
    return LoadTestRow(
        text_of(row.get("name")),
        total,
        successful,
        failed,
        average,
        p95,
        p99,
        _number(row.get("throughput"), "{:.1f}/s"),
        "–" if error_rate is None else format_value(float(error_rate), "ratio"),
        format_moment(row.get("started_at")),
        format_moment(row.get("ended_at")),
        text_of(row.get("verdict")),
    )


def _number(value: Any, shape: str) -> str:
    return shape.format(value) if isinstance(value, int | float) else "–"
