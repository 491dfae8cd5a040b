"""Reads from the store what a plan is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.scaler.resources.leak import Leak, Verdict, find_leaks
from services.scaler.resources.network import NetworkUse
from services.scaler.resources.observed import Use, count_full_ends
from services.scaler.resources.plan import Plan, make_plan
from services.scaler.resources.storage import StorageUse
from services.scaler.resources.usage import summarize_services
from services.scaler.situation import Sizes
from shared.contracts.scaling_rules import ScalingRules
from shared.store.asking import Connection
from shared.store.figures import Connecting, MemoryPoint, UsageStep
from shared.store.footprint import read_commits, read_tables
from shared.store.keeping import Keeping
from shared.store.results import read_connecting, read_stored
from shared.store.runs import list_runs
from shared.store.spans import plan_slices
from shared.store.usage import (
    MEMORY_SAMPLES_UP_TO,
    plan_step,
    read_calls,
    read_memory,
    read_served,
    read_usage,
)

KNOWN_RUNS, LOOKED_AT_RUNS = 200, 5
"""Of the newest runs of the time so many are looked at for their connections."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a plan is asked for. ``service``: one alone, all where None. ``headroom``: above p95 of CPU, as a share."""

    environment: str
    since: datetime
    until: datetime
    service: str | None
    headroom: float


async def read_plan(
    connection: Connection, question: Question, rules: ScalingRules, sizes: Mapping[str, Sizes]
) -> Plan:
    """The plan that the store's figures and the sizes of now lead to."""
    span = (question.environment, question.since, question.until)
    steps, step = await _read_usage(connection, question)
    memory = await read_memory(connection, *span, service=question.service)
    services = summarize_services(steps, sizes)
    leaks = await _read_leaks(connection, question, memory)
    uses = []
    for one in services:
        at = [step.at for step in steps if step.service == one.service]
        points = [point for point in memory if point.service == one.service]
        leaking = tuple(leak.instance for leak in leaks if leak.service == one.service)
        seen = min(max(at) - min(at) + step, question.until - question.since)
        full_ends = count_full_ends(points, question.until)
        uses.append(Use(one, seen.total_seconds(), leaking, full_ends, told=one.service in sizes))
    systems = {one.system for one in services}

    def concerns(name: str) -> bool:
        return question.service is None or name in systems or name == question.service

    calls = [pair for pair in await read_calls(connection, question.since, question.until) if concerns(pair.callee)]
    network = NetworkUse(
        connecting=[one for one in await _connections(connection, question) if concerns(one.system)],
        calls=calls,
        served=[one for one in await read_served(connection, *span) if concerns(one.system)],
        services=services,
        span_s=(question.until - question.since).total_seconds(),
    )
    storage = StorageUse(
        services=services,
        steps=[step for step in steps if step.metric == "storage_ratio"],
        tables=await read_tables(connection, Keeping()),
        commits=await read_commits(connection, question.since, question.until),
        now=question.until,
    )
    known = {name: its for name, its in rules.services.items() if question.service in (None, name)}
    return make_plan(uses, known, network, storage, question.headroom, rules.prices)


async def _read_usage(connection: Connection, question: Question) -> tuple[list[UsageStep], timedelta]:
    """By steps of what there is, not of all that was asked for: percentiles of a few long steps are only means."""
    since, until = question.since, question.until
    steps = await read_usage(connection, question.environment, since, until, service=question.service)
    begun = min((one.at for one in steps), default=since)
    if plan_step(until - begun) < plan_step(until - since):
        since = begun
        steps = await read_usage(connection, question.environment, since, until, service=question.service)
    return steps, plan_step(until - since)


async def _read_leaks(connection: Connection, question: Question, memory: Sequence[MemoryPoint]) -> list[Leak]:
    """Of the whole time; where that says too little of an instance - it is short, or read in steps too long for a life
    that began lately - of the last hours."""
    since = question.until - MEMORY_SAMPLES_UP_TO
    lately = await read_memory(connection, question.environment, since, question.until, service=question.service)
    found = {(one.service, one.instance): one for one in find_leaks(lately)}
    whole = (one for one in find_leaks(memory) if one.verdict is not Verdict.INSUFFICIENT)
    found |= {(one.service, one.instance): one for one in whole}
    return [one for one in found.values() if one.verdict is Verdict.LEAK]


async def _connections(connection: Connection, question: Question) -> list[Connecting]:
    """By system, how many requests of the newest runs of this time had a connection opened for them."""
    runs = [
        run
        for run in await list_runs(connection, question.environment, KNOWN_RUNS)
        if run.started_at is not None
        and run.started_at < question.until
        and (run.ended_at or question.until) > question.since
    ]
    told: dict[str, list[Connecting]] = {}
    for run in runs[:LOOKED_AT_RUNS]:
        since, until = (
            max(run.started_at or question.since, question.since),
            min(run.ended_at or question.until, question.until),
        )
        slices = plan_slices(since, until + timedelta(seconds=1), (await read_stored(connection, run.run)).stored)
        async with connection.transaction():
            for one in await read_connecting(connection, run.run, slices):
                told.setdefault(one.system, []).append(one)
    return [_together(system, its) for system, its in sorted(told.items())]


def _together(system: str, its: list[Connecting]) -> Connecting:
    opened = sum(one.opened for one in its)
    return Connecting(
        system,
        sum(one.looked_at for one in its),
        opened,
        sum(one.connect_ms * one.opened for one in its) / max(1, opened),
        sum(one.service_ms * one.opened for one in its) / max(1, opened),
    )
