"""Watches the canary runs of one environment for the validator that presides: their hours, their days.

Every hour and every day that is over is held against past days once; every day is summed up in the store, and again
when late data changes it. All of it is taken from the store, so that a validator that was away catches up; a store that
is away is asked again. What was found is taken by whoever tells (``presiding.py``).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, tzinfo

from services.validator.canary import CanaryRun, Days, Span, compare_with
from services.validator.drift import DriftRules, Finding, Window, judge_window
from services.validator.drift_breach import ActionOf, DriftFound
from services.validator.fault_log import FaultLog
from services.validator.judging import Judge
from services.validator.summary import DayFacts, build_summary
from services.validator.timescale import Store
from services.validator.verdict import Verdict
from shared.contracts.window import Exemplar
from shared.errors import TransientError
from shared.store.figures import SpanTotals
from shared.store.summaries import SummaryHead

LOOK_S, STAND_BY_S = 30.0, 1.0
HOUR_SETTLE = timedelta(minutes=2)
DAY_SETTLE = timedelta(minutes=5)
"""Frames come within seconds; what comes later than this makes a new revision of a summary."""
HOURS_BACK = timedelta(hours=6)
DAYS_BACK = 7
"""No frame comes later, and a validator that was away for longer leaves older days out."""
PARTIAL_EVERY = timedelta(minutes=2)
LATE_EVERY = timedelta(minutes=10)
MOST_DRIFTED = 20
"""Exemplars are looked up for so many actions of a window."""

logger = logging.getLogger(__name__)


class CanaryWatch:
    """One per process; does nothing while another validator presides."""

    def __init__(self, judge: Judge, store: Store, rules: DriftRules, zone: tzinfo) -> None:
        self._judge, self._store, self._rules = judge, store, rules
        self._days, self._zone_name = Days(zone), str(zone)
        self._faults = FaultLog()
        self._found: list[DriftFound] = []
        self._hours_judged: dict[str, datetime] = {}
        self._day_judged: dict[str, date] = {}
        self._partial_at: dict[str, datetime] = {}
        self._late_at: datetime | None = None

    async def watch(self, presiding: Callable[[], bool]) -> None:
        """Look every half minute, for ever."""
        while True:
            if not presiding():
                self.forget()
                await asyncio.sleep(STAND_BY_S)
                continue
            try:
                await self.look(datetime.now(UTC))
            except TransientError as error:
                logger.warning("canaries are looked at again later: %s", error)
            await asyncio.sleep(LOOK_S)

    def take(self) -> list[DriftFound]:
        """What was found since the last time."""
        found, self._found = self._found, []
        return found

    def forget(self) -> None:
        """Begin anew: what was found and not told is found again."""
        self._found.clear()
        self._hours_judged.clear()
        self._day_judged.clear()
        self._partial_at.clear()
        self._late_at = None

    async def look(self, now: datetime) -> None:
        """Judge what is over and sum it up. Raises ``TransientError``; what was done stays done."""
        environment = self._judge.environment
        runs = await self._store.list_canaries(environment, now - timedelta(days=self._rules.days + 2), now)
        live = [run for run in runs if run.ended is None]
        self._note_faults(live, now)
        for run in live:
            await self._judge_hours(run, runs, len(live), now)
        if runs:
            await self._sum_up(runs, len(live), now)

    def _note_faults(self, live: Sequence[CanaryRun], now: datetime) -> None:
        for run in live:
            board = self._judge.boards.get(run.run)
            for system, windows in board.windows.items() if board else ():
                health = windows.whole_health()
                self._faults.note((run.run, system), now, health.seconds, health.seconds_at_fault)
        names = {run.run for run in live}
        self._faults.keep_only(names)
        self._day_judged = {name: day for name, day in self._day_judged.items() if name in names}
        for known in (self._hours_judged, self._partial_at):
            for name in known.keys() - names:
                del known[name]

    async def _judge_hours(self, run: CanaryRun, runs: Sequence[CanaryRun], canaries: int, now: datetime) -> None:
        since = self._hours_judged.get(run.run, now - HOURS_BACK)
        hour = self._days.hour(since)
        if hour.start < since:
            hour = self._days.hour(hour.stop)
        while hour.stop + HOUR_SETTLE <= now:
            if run.asked(hour) is not None:
                reach = await self._store.read_reach(run.run)
                if reach is None or reach < hour.stop:
                    # The store is behind, or nobody sends: neither says anything of the systems.
                    return
                await self._judge_span(run, hour, runs, canaries)
            self._hours_judged[run.run] = hour.stop
            hour = self._days.hour(hour.stop)

    async def _judge_span(
        self, run: CanaryRun, span: Span, runs: Sequence[CanaryRun], canaries: int
    ) -> list[Finding] | None:
        """Hold a window of a run against past days, and leave what is found to be told; None where none compares."""
        past = compare_with(run, span, self._days.before(span, self._rules.days), runs)
        if not past:
            return None
        asked = [(run.run, span), *((one.run, one.span) for one in past)]
        rows = await self._store.read_spans([(name, one.start, one.stop) for name, one in asked])
        told: dict[tuple[str, datetime], list[SpanTotals]] = {}
        for row in rows:
            told.setdefault((row.run, row.start), []).append(row)
        windows = [window_of(one, told.get((name, one.start), ())) for name, one in asked]
        findings = await asyncio.to_thread(judge_window, windows[0], windows[1:], span.grain, self._rules, canaries)
        findings = [self._unless_at_fault(run, span, finding) for finding in findings]
        exemplars = await self._find_exemplars(run, span, findings)
        self._found.append(DriftFound(run.run, span, tuple(findings), exemplars))
        return findings

    def _unless_at_fault(self, run: CanaryRun, span: Span, finding: Finding) -> Finding:
        if not self._faults.at_fault((run.run, finding.system), span.start, span.stop):
            return finding
        return replace(finding, verdict=Verdict.INVALID, improved=False, note="the generator was at fault or silent")

    async def _find_exemplars(
        self, run: CanaryRun, span: Span, findings: Sequence[Finding]
    ) -> Mapping[ActionOf, tuple[Exemplar, ...]]:
        drifted = [(one.system, one.scenario, one.action) for one in findings if one.verdict is Verdict.MISSED]
        return {
            of: await self._store.read_slowest(run.run, span.start, span.stop, of)
            for of in list(dict.fromkeys(drifted))[:MOST_DRIFTED]
        }

    async def _sum_up(self, runs: Sequence[CanaryRun], canaries: int, now: datetime) -> None:
        today = self._days.of(now)
        first = today - timedelta(days=DAYS_BACK)
        heads = await self._store.read_heads(self._judge.environment, first)
        late = self._late_at is None or now - self._late_at >= LATE_EVERY
        for run in runs:
            for span in self._spans(run, first, today, now):
                head = heads.get((run.run, span.day))
                over = min(span.stop, run.ended or span.stop) + DAY_SETTLE <= now
                if not over:
                    due = now - self._partial_at.get(run.run, now - PARTIAL_EVERY) >= PARTIAL_EVERY
                    if due:
                        self._partial_at[run.run] = now
                        await self._write(run, span, runs, canaries, now, head, complete=False)
                elif head is None or not head.complete or (late and await self._is_outdated(run, span, head)):
                    await self._write(run, span, runs, canaries, now, head, complete=True)
                elif run.ended is None and self._day_judged.get(run.run, today - timedelta(days=2)) < span.day:
                    # Written by another, who may not have told what it found; what was told is not told again.
                    await self._judge_day(run, span, runs, canaries)
        if late:
            self._late_at = now

    async def _judge_day(
        self, run: CanaryRun, span: Span, runs: Sequence[CanaryRun], canaries: int
    ) -> list[Finding] | None:
        findings = await self._judge_span(run, span, runs, canaries) if run.asked(span) else None
        self._day_judged[run.run] = span.day
        return findings

    async def _is_outdated(self, run: CanaryRun, span: Span, head: SummaryHead) -> bool:
        return await self._store.count_stored(run.run, span.start, span.stop) != head.events

    def _spans(self, run: CanaryRun, first: date, today: date, now: datetime) -> list[Span]:
        """The days of a run, oldest first."""
        began, ended = self._days.of(run.started), self._days.of(run.ended or now)
        day, last = max(first, began), min(today, ended)
        return [self._days.day(day + timedelta(days=number)) for number in range((last - day).days + 1)]

    async def _write(
        self,
        run: CanaryRun,
        span: Span,
        runs: Sequence[CanaryRun],
        canaries: int,
        now: datetime,
        head: SummaryHead | None,
        *,
        complete: bool,
    ) -> None:
        """Sum up a day, and judge it where it is whole and new."""
        findings = await self._judge_day(run, span, runs, canaries) if complete else None
        since, until = max(span.start, run.started), min(span.stop, run.ended or span.stop, now)
        board = self._judge.boards.get(run.run)
        facts = await self._store.gather_day(
            DayFacts(
                run=run,
                span=span,
                zone=self._zone_name,
                since=since,
                until=max(since, until),
                complete=complete,
                findings=findings,
                health={system: windows.whole_health() for system, windows in board.windows.items()} if board else {},
            ),
            again=head is not None and head.complete,
        )
        body = await asyncio.to_thread(build_summary, self._judge.benchmarks, facts)
        revision = await self._store.save_summary(facts, body)
        if revision:
            logger.info("run %s: summary of %s, revision %d", run.run, span.day, revision)


def window_of(span: Span, rows: Sequence[SpanTotals]) -> Window:
    """A span with what its actions did in it."""
    totals = {(row.system, row.scenario, row.action, row.kind): row for row in rows if row.count}
    return Window(span.day.weekday(), span.seconds, totals)
