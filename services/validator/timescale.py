"""Adapter of the store: gathers a run's facts, tells how much of it is stored, writes its report.

Connections are made per call: reports are rare, and a validator outlives any server it talks to. Every error of the
store is a ``TransientError``.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
from psycopg import AsyncConnection

from services.validator.canary import CanaryRun, end_of
from services.validator.facts import Facts, Observed, Span
from services.validator.hop_table import ScenarioHops, TracedCall
from services.validator.hops import break_down
from services.validator.summary import DayFacts
from shared.contracts.breach import Breach
from shared.contracts.run import RunDesired, RunState
from shared.contracts.window import Exemplar
from shared.errors import TransientError
from shared.store import budgets, canary, reports, results, spans, summaries, timeline
from shared.store.breaches import list_breaches
from shared.store.budgets import BudgetOf
from shared.store.figures import SpanTotals, Stored, TraceSpan
from shared.store.spans import ChosenTrace

MOST_POINTS = 600
AFTERMATH = timedelta(seconds=30)
BEFORE = timedelta(minutes=1)
LATEST = timedelta(hours=1)
"""A request in flight at a run's end is done by then."""
PER_INSTANCE = ("request_rate", "requests_in_flight", "routing_latency", "cost_optimization_time", "model_load_time")
"""Metrics by which the replicas of a service are told apart."""
CONNECTING_ROWS, CONNECTING_SLICES = 20_000, 3
"""So many rows tell the share of opened connections to half a percent."""
TRACES_DRAWN = 300
TRACES_SLOWEST = 10
LOOK_MS = 2_000
"""Longest statement of a look at the traces of a breach; a report waits longer for its own."""
HOPS_MS = 10_000
SPANS_MS = 30_000
SLOWEST_OF_DAY = 10

logger = logging.getLogger(__name__)


class Store:
    """The store by its connection string."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def has_report(self, run: str) -> bool:
        async with self._connect() as connection:
            return await reports.has_report(connection, run)

    async def read_stored(self, run: str) -> Stored:
        async with self._connect() as connection:
            return await results.read_stored(connection, run)

    async def write_report(self, run: str, body: dict[str, Any]) -> int:
        """Store a report; returns its revision."""
        async with self._connect() as connection:
            return await reports.write_report(connection, run, body)

    async def gather(
        self,
        desired: RunDesired,
        state: RunState,
        observed: Observed,
        breaches: dict[str, Breach],
        named: Mapping[tuple[str, str], str] | None = None,
    ) -> Facts:
        """Everything known of a run that is over, from one snapshot of the store.

        ``breaches``: the latest events this validator knows; the store may be behind them or know older ones.
        ``named``: the spans, by system and name, whose times are wanted, with the service they come from.
        """
        span = Span.of(desired, state)
        hops = await self._gather_hops(desired.run, span)
        since, until = span.started - BEFORE, span.ended + AFTERMATH
        async with self._connect() as connection, connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            await connection.execute("SET LOCAL work_mem = '64MB'")  # sorts what a time line counts without a file
            held = (await results.read_stored(connection, desired.run)).stored
            plan = timeline.plan_timeline(span.duration_s, held, MOST_POINTS)
            came_to = await results.read_results(connection, desired.run)
            stored = [Breach.model_validate(row) for row in await results.read_breaches(connection, desired.run)]
            return Facts(
                desired=desired,
                state=state,
                series=tuple(came_to.series),
                after=came_to.after,
                edges=await results.read_edges(
                    connection,
                    desired.run,
                    span.judged_from,
                    span.ended,
                    span.ended + LATEST,
                    ramp_up=span.judged_from > span.started,
                ),
                timeline=tuple(await timeline.read_timeline(connection, desired.run, since, until + LATEST, plan)),
                resources=tuple(
                    await results.read_resources(connection, desired.environment, span.started, span.ended, plan.step_s)
                ),
                instances=tuple(
                    await results.read_instances(
                        connection, desired.environment, span.judged_from, span.ended, PER_INSTANCE
                    )
                ),
                connecting=tuple(
                    await results.read_connecting(
                        connection,
                        desired.run,
                        spans.plan_slices(
                            span.judged_from, span.ended, held, rows=CONNECTING_ROWS, slices=CONNECTING_SLICES
                        ),
                    )
                ),
                replicas=tuple(
                    await results.read_replicas(connection, desired.environment, span.started, span.ended, plan.step_s)
                ),
                breaches=merge_breaches(stored, list(breaches.values())),
                scaling=tuple(await results.read_scaling(connection, desired.environment, span.started, until)),
                observed=observed,
                hops=hops,
                spans={
                    (system, name): await spans.read_span_times(connection, service, name, span.judged_from, span.ended)
                    for (system, name), service in (named or {}).items()
                },
                step_s=plan.step_s,
            )

    async def read_open_breaches(self, environment: str) -> list[Breach]:
        """The last stored event of every episode that was left open; gives up rather than takes long."""
        async with self._bounded(LOOK_MS) as connection:
            rows = await list_breaches(connection, environment, open_only=True, limit=None)
        return [Breach.model_validate(row.event["data"]) for row in rows]

    async def read_spending(self, budget: BudgetOf, since: datetime, until: datetime) -> list[tuple[int, int, int]]:
        """What a run has spent of an error budget, by step of time."""
        async with self._bounded(HOPS_MS) as connection:
            return await budgets.read_spending(connection, budget, since, until)

    async def read_traces(
        self, trace_ids: Sequence[str], since: datetime, until: datetime
    ) -> dict[str, list[TraceSpan]]:
        """Spans of a few traces; gives up rather than takes long."""
        async with self._bounded(LOOK_MS) as connection:
            return await spans.read_traces(connection, trace_ids, since, until)

    async def count_roots(self, trace_ids: Sequence[str], span: Span) -> int:
        """How many of these traces have come to the store with their root; 0 where that takes too long to tell."""
        if not trace_ids:
            return 0
        try:
            async with self._bounded(LOOK_MS) as connection:
                return await spans.count_roots(connection, trace_ids, span.started - BEFORE, span.ended + AFTERMATH)
        except TransientError:
            return 0

    async def _gather_hops(self, run: str, span: Span) -> tuple[ScenarioHops, ...]:
        """Hops of every scenario after ramp-up; none when they cannot be had: a report does not wait for evidence."""
        until = span.ended + AFTERMATH
        try:
            async with self._bounded(HOPS_MS) as connection:
                held = (await results.read_stored(connection, run)).stored
                looked_at = spans.plan_slices(span.judged_from, until, held)
                chosen = await spans.choose_traces(
                    connection, run, looked_at, drawn=TRACES_DRAWN, slowest=TRACES_SLOWEST
                )
                ids = [one.trace_id for one in chosen]
                found = await spans.read_traces(connection, ids, span.started - BEFORE, until) if ids else {}
        except TransientError as error:
            logger.warning("run %s is reported without its hops: %s", run, error)
            return ()
        return await asyncio.to_thread(_break_down_all, chosen, found)

    async def count_scaling(self, environment: str, since: datetime, until: datetime) -> int:
        async with self._connect() as connection:
            return len(await results.read_scaling(connection, environment, since, until))

    async def list_canaries(self, environment: str, since: datetime, now: datetime) -> list[CanaryRun]:
        """The canary runs of an environment that went on after a moment, the oldest first."""
        async with self._connect() as connection:
            rows = await canary.list_canaries(connection, environment, since)
        return [
            CanaryRun(RunDesired.model_validate(row.desired), row.started_at, end_of(row.ended_at, row.said_at, now))
            for row in rows
        ]

    async def read_spans(self, spans: Sequence[tuple[str, datetime, datetime]]) -> list[SpanTotals]:
        """What every action did in these spans of whole hours, each of one run."""
        async with self._bounded(SPANS_MS) as connection:
            return await canary.read_spans(connection, spans)

    async def read_reach(self, run: str) -> datetime | None:
        """How far what is committed of a run reaches."""
        async with self._connect() as connection:
            return await canary.read_reach(connection, run)

    async def read_slowest(
        self, run: str, since: datetime, until: datetime, of: tuple[str, str, str]
    ) -> tuple[Exemplar, ...]:
        """The slowest recorded requests of an action; of workflows or a whole scenario where it has no such action."""
        system, scenario, action = of
        async with self._bounded(HOPS_MS) as connection:
            found = await canary.read_slowest(
                connection, run, since, until, kind=None, system=system, scenario=scenario, action=action
            )
        return tuple(exemplar for _, exemplar in found)

    async def count_stored(self, run: str, since: datetime, until: datetime) -> int:
        """How many requests and workflows of some whole hours of a run are stored."""
        async with self._bounded(SPANS_MS) as connection:
            return await canary.count_stored(connection, run, since, until)

    async def read_heads(self, environment: str, since: date) -> dict[tuple[str, date], summaries.SummaryHead]:
        """Which days are summed up, by run and day."""
        async with self._connect() as connection:
            return await summaries.read_heads(connection, environment, since)

    async def gather_day(self, facts: DayFacts, *, again: bool) -> DayFacts:
        """The facts of a day with what the store holds of it. ``again``: it was complete before."""
        run, span = facts.run.run, facts.span
        hours = [span.start + timedelta(hours=number) for number in range(round(span.seconds / 3_600))]
        async with self._bounded(SPANS_MS) as connection:
            before = await summaries.read_summary(connection, run, before=span.day)
            own = await summaries.read_summary(connection, run, day=span.day) if again else None
            return replace(
                facts,
                hours=await canary.read_spans(connection, [(run, at, at + timedelta(hours=1)) for at in hours]),
                stored=await results.read_stored(connection, run),
                breaches=[
                    Breach.model_validate(row)
                    for row in await canary.read_day_breaches(connection, run, facts.since, facts.until)
                ],
                slowest=await canary.read_slowest(connection, run, facts.since, facts.until, limit=SLOWEST_OF_DAY),
                before=before.body if before else None,
                own=own.body if own else None,
            )

    async def save_summary(self, facts: DayFacts, body: dict[str, Any]) -> int | None:
        """Write a day; returns its revision, None where nothing is new."""
        async with self._connect() as connection:
            return await summaries.save_summary(
                connection,
                facts.run.desired.environment,
                facts.run.run,
                facts.span.day,
                facts.run.name,
                complete=facts.complete,
                events=facts.events,
                body=body,
            )

    @asynccontextmanager
    async def _bounded(self, statement_ms: int) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection each of whose statements ends within a time."""
        async with self._connect() as connection:
            await spans.limit_statements(connection, statement_ms)
            yield connection

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[AsyncConnection[Any]]:
        try:
            async with await AsyncConnection.connect(self._dsn, autocommit=True, connect_timeout=5) as connection:
                yield connection
        except psycopg.Error as error:
            raise TransientError(
                f"the store: {str(error).strip().splitlines()[0] if str(error) else error!r}"
            ) from error


def merge_breaches(*known: list[Breach]) -> tuple[Breach, ...]:
    """The highest revision of every episode, by when it opened."""
    latest: dict[str, Breach] = {}
    for breach in (breach for part in known for breach in part):
        if breach.breach not in latest or breach.revision > latest[breach.breach].revision:
            latest[breach.breach] = breach
    return tuple(sorted(latest.values(), key=lambda breach: (breach.opened_at, breach.breach)))


def _break_down_all(chosen: Sequence[ChosenTrace], found: dict[str, list[TraceSpan]]) -> tuple[ScenarioHops, ...]:
    calls: dict[str, list[TracedCall]] = {}
    missing: dict[str, list[str]] = {}
    for one in chosen:
        of_scenario = calls.setdefault(one.scenario, [])
        breakdown = break_down(found.get(one.trace_id, ()))
        if breakdown is None:
            missing.setdefault(one.scenario, []).append(one.trace_id)
        else:
            started_us = min(span.start_us for span in found[one.trace_id] if not span.parent_span_id)
            of_scenario.append(TracedCall(one.trace_id, breakdown, one.drawn, started_us, tuple(found[one.trace_id])))
    return tuple(
        ScenarioHops(scenario, tuple(found_calls), tuple(missing.get(scenario, ())))
        for scenario, found_calls in calls.items()
    )
