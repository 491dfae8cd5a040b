"""A search for the breaking point in words: its steps while they are made, its answer, and both in a report. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.console.report_rows import tone_of
from services.console.wording import format_ms, format_value
from shared.contracts.stress import StressAnswer, StressMargin, StressSearch, StressStep

COUNTS = ("#step", "#level", "#offered", "#achieved", "#mean", "#p95", "#errors", "#seconds")
STEP_COLUMNS = (*COUNTS, "verdict", "nearest to its limit")
ABSENT = "–"


def format_load(level: float | None, unit: str) -> str:
    """``182.4/s`` or ``60 users``."""
    if level is None:
        return ABSENT
    return f"{level:,.0f} users" if unit == "users" else f"{level:,.4g}/s"


def describe_level(search: StressSearch) -> str:
    """Where a search stands, for the live line."""
    if search.answer is not None:
        return "search ended"
    if search.resting:
        return "resting"
    return f"step {len(search.steps) + 1} of at most {search.max_steps}: {format_load(search.level, search.unit)}"


def describe_step(step: StressStep, unit: str) -> str:
    """One line of one step."""
    p95 = "" if step.p95_ms is None else f", p95 {format_ms(step.p95_ms)}"
    note = f" ({step.note})" if step.note else ""
    return f"step {step.number} {format_load(step.level, unit)}: {step.verdict}{p95}; {tell_nearest(step)}{note}"


def tell_nearest(step: StressStep) -> str:
    """The benchmark that was nearest to its limit, or furthest beyond it."""
    told = [margin for margin in step.margins if margin.margin is not None]
    if not told:
        return "nothing to judge by"
    return compare_margin(max(told, key=lambda margin: margin.margin or 0.0))


def compare_margin(margin: StressMargin) -> str:
    """``relaycore routing_latency mean 62 ms of 50 ms``."""
    value = ABSENT if margin.value is None else format_value(margin.value, margin.unit)
    return f"{margin.name} {margin.statistic} {value} of {format_value(margin.limit, margin.unit)}"


def describe_answer(answer: StressAnswer, unit: str) -> str:
    """The answer in one line."""
    if not answer.found:
        known = [f"kept at {format_load(answer.highest_met, unit)}"] if answer.highest_met else []
        known += [f"broken at {format_load(answer.lowest_broken, unit)}"] if answer.lowest_broken else []
        return f"breaking point not found: {answer.reason}" + (f" ({', '.join(known)})" if known else "")
    between = f"{format_load(answer.low, unit)} to {format_load(answer.high, unit)}"
    return f"every benchmark is kept up to {format_load(answer.level, unit)} (95 %: {between}){_more(answer, unit)}"


def _more(answer: StressAnswer, unit: str) -> str:
    parts = []
    if answer.knee is not None:
        parts.append(f"the knee is at {format_load(answer.knee, unit)}")
    if answer.broke is not None:
        hop = f", most of it in {answer.broke.slowest_hop}" if answer.broke.slowest_hop else ""
        parts.append(f"first to break: {compare_margin(answer.broke.margin)}{hop}")
    return "".join(f"; {part}" for part in parts)


@dataclass(frozen=True, slots=True)
class StressPart:
    """The part of a report that tells of a search: the answer in a line, rows of ``STEP_COLUMNS`` with their tones, and
    what takes from its worth."""

    answer: str
    rows: list[tuple[tuple[str, ...], str]]
    found: bool
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = STEP_COLUMNS
    verdict_at: int = STEP_COLUMNS.index("verdict")
    titles: tuple[str, ...] = tuple(column.lstrip("#") for column in STEP_COLUMNS)


def read_stress(report: Mapping[str, Any]) -> StressPart | None:
    """None for a report of a run without a search."""
    section = report.get("stress")
    if not section:
        return None
    search = StressSearch.model_validate(section)
    answer = search.answer or StressAnswer(found=False, reason="the run ended first")
    rows = [(_row(step, search.unit), tone_of(step.verdict)) for step in search.steps]
    return StressPart(describe_answer(answer, search.unit), rows, answer.found, tuple(_notes(section)))


def _notes(section: Mapping[str, Any]) -> Iterator[str]:
    for one in section.get("left_out") or ():
        yield f"Not judged in any step: {one['system']} {one['metric']}; {one['reason']}."
    if scaled := ", ".join(section.get("scaled") or ()):
        yield f"Scaled meanwhile: {scaled}; the steps before and after are not of the same system."


def _row(step: StressStep, unit: str) -> tuple[str, ...]:
    return (
        str(step.number),
        format_load(step.level, unit),
        f"{step.offered:,.4g}/s",
        f"{step.achieved:,.4g}/s",
        ABSENT if step.mean_ms is None else format_ms(step.mean_ms),
        ABSENT if step.p95_ms is None else format_ms(step.p95_ms),
        ABSENT if step.error_rate is None else f"{step.error_rate:.2%}",
        f"{step.to_s - step.from_s:.0f}",
        step.verdict,
        tell_nearest(step),
    )
