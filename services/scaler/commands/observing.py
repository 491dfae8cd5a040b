"""Reads what ``tidegate resources`` is made of: usage, memory, calls and requests from the store."""

from collections.abc import Iterable, Set
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.scaler.resources.consumption import METRICS, Span
from services.scaler.resources.findings import Observed, PastRun
from shared.errors import ConfigError, among
from shared.store.asking import Connection, find_run
from shared.store.figures import Served
from shared.store.runs import list_runs, read_run
from shared.store.usage import (
    list_sampled_services,
    plan_step,
    read_calls,
    read_memory,
    read_served,
    read_served_by_day,
    read_served_by_run,
    read_usage,
    read_usage_days,
)

LEAST_FOR_LEAKS = timedelta(minutes=65)
RUNS, DAYS = 20, timedelta(days=30)
NOTHING = "see `sources` in config/resources.yaml, and that a collector runs"


async def observe(
    connection: Connection, environment: str, *, service: str | None, run: str | None, age: timedelta
) -> Observed:
    """One span: that of a run, or the last ``age``. ``ConfigError`` where no samples are there."""
    now = datetime.now(UTC)
    run = None if run is None else await find_run(connection, environment, run)
    span = Span("now", now - age, now) if run is None else await _span_of(connection, run, now)
    steps = await read_usage(connection, environment, span.since, span.until, service=service)
    if not steps:
        known = await list_sampled_services(connection, environment, span.since, span.until)
        if service is not None and known:
            raise ConfigError(f"no samples of a service {service!r}{among(service, known)}")
        raise ConfigError(
            f"no resource samples from {span.since:%Y-%m-%d %H:%M:%S} to {span.until:%H:%M:%S} UTC; {NOTHING}"
        )
    systems = {step.system for step in steps}
    served = (
        await read_served(connection, environment, span.since, span.until)
        if run is None
        else await read_served_by_run(connection, run)
    )
    calls = await read_calls(connection, span.since, span.until)
    return Observed(
        span=span,
        step=plan_step(span.until - span.since),
        steps=steps,
        memory=await read_memory(
            connection, environment, min(span.since, span.until - LEAST_FOR_LEAKS), span.until, service=service
        ),
        calls=[call for call in calls if service is None or service in (call.caller, call.callee)],
        served=_asked_for(served, service, systems),
    )


async def observe_past(
    connection: Connection, environment: str, observed: Observed, *, service: str | None
) -> Observed:
    """With the last runs, oldest first, and days."""
    now = datetime.now(UTC)
    runs = [
        Span(row.run, row.started_at, row.ended_at or now)
        for row in reversed(await list_runs(connection, environment, RUNS))
        if row.started_at is not None
    ]
    systems = {step.system for step in observed.steps}
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    since = midnight - DAYS
    return replace(
        observed,
        runs=[await _used(connection, environment, span, service, systems) for span in runs],
        days=await read_usage_days(connection, environment, since, now, METRICS, service=service),
        served_by_day=_asked_for(await read_served_by_day(connection, environment, since, now), service, systems),
    )


async def _used(
    connection: Connection, environment: str, span: Span, service: str | None, systems: Set[str]
) -> PastRun:
    steps = await read_usage(connection, environment, span.since, span.until, service=service)
    served = _asked_for(await read_served_by_run(connection, span.name), service, systems)
    return PastRun(span, plan_step(span.until - span.since), steps, served)


def _asked_for(served: Iterable[Served], service: str | None, systems: Set[str]) -> list[Served]:
    """Of one service alone, the requests that were sent to its system: others were not answered by what it used."""
    return [one for one in served if service is None or one.system in systems]


async def _span_of(connection: Connection, run: str, now: datetime) -> Span:
    about = await read_run(connection, run)
    if about is None or about.started_at is None:
        raise ConfigError(f"run {run} has not begun, so nothing was used in it")
    return Span(run, about.started_at, about.ended_at or now)
