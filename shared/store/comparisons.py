"""Named queries for runs held against each other: what was asked of them, and each action in equal steps of time.

Reads only. Ramp-up and cancelled requests are left out. Steps come from the rows as long as they are there and few,
else from the roll-ups, whose ten seconds hold the same buckets.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row

from shared.contracts.timing import Check, ErrorKind, EventFlag
from shared.store.series import HOUR, WINDOW, list_hours

ROWS_AT_MOST = 1_000_000
STEPS_AT_MOST = 600
STEPS_ENOUGH = 60
"""A run of more rows than the first is read from its roll-ups where these give as many steps as the last."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RanRow:
    """A run as far as others are compared with it, told by what was asked of it and by its latest report.

    ``loads``: scenario, users, rate, profile, spacing, stages, duration_s, ramp_up_s, whether it was ``changed`` while
    it ran, and a digest of the scenario as it was ``written``; by name. ``at_fault``: systems of which the generator
    spoiled what was measured. ``missing``: (system, scenario, action) of which not all that was sent is stored.
    ``verdict`` is None where there is no report.
    """

    run: str
    phase: str
    requested_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    tags: dict[str, str]
    targets: dict[str, str]
    loads: list[dict[str, Any]]
    verdict: str | None
    at_fault: list[str]
    missing: list[list[str]]


@dataclass(frozen=True, slots=True)
class Steps:
    """``n`` requests, ``failed`` of which failed, of a series, a step (whole ``step_s`` since the epoch) and a bucket
    of response time: a row each, in any order, several of one bucket where that is easier. ``source``: the table."""

    step_s: int
    source: str
    series_id: NDArray[np.int64]
    step: NDArray[np.int64]
    bucket: NDArray[np.int64]
    n: NDArray[np.int64]
    failed: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One action of one run as a whole; percentiles of the response time, nearest-rank."""

    run: str
    system: str
    scenario: str
    action: str
    kind: int
    n: int
    failed: int
    p50_ms: float
    p95_ms: float


_RAN = """
SELECT r.run, r.phase, r.requested_at, r.started_at, r.ended_at,
       coalesce(r.desired -> 'tags', '{{}}') AS tags, coalesce(r.desired -> 'targets', '{{}}') AS targets,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'scenario', l -> 'scenario' -> 'name', 'users', l -> 'users', 'rate', l -> 'rate',
                   'profile', l -> 'profile', 'spacing', l -> 'spacing', 'stages', l -> 'stages',
                   'duration_s', l -> 'duration_s', 'ramp_up_s', l -> 'ramp_up_s',
                   'changed', coalesce(jsonb_array_length(l -> 'changes'), 0) > 0,
                   'written', md5(l ->> 'scenario')) ORDER BY l -> 'scenario' ->> 'name'), '[]')
          FROM jsonb_array_elements(r.desired -> 'loads') AS l) AS loads,
       p.body ->> 'verdict' AS verdict,
       coalesce(jsonb_path_query_array(
           p.body, '$.generator_health.systems.keyvalue() ? (@.value.at_fault == true).key'), '[]') AS at_fault,
       coalesce((SELECT jsonb_agg(jsonb_build_array(x -> 'system', x -> 'scenario', x -> 'action'))
                   FROM jsonb_path_query(p.body, '$.results[*] ? (@.missing > 0)') AS x), '[]') AS missing
  FROM run r
  LEFT JOIN LATERAL (SELECT body FROM report WHERE report.run = r.run ORDER BY revision DESC LIMIT 1) p ON true
 WHERE {which} ORDER BY r.requested_at DESC, r.run LIMIT %(limit)s
"""

_SCENARIOS = """
SELECT array_agg(l -> 'scenario' ->> 'name' ORDER BY l -> 'scenario' ->> 'name')
  FROM jsonb_array_elements({of} -> 'loads') AS l
"""

_FAILED = f"(error NOT IN ({ErrorKind.OK:d}, {ErrorKind.CANCELLED:d}) OR check_result = {Check.FAILED:d})"
_ROWS = f"""
SELECT series_id::bigint, floor(extract(epoch FROM at) / %(step)s)::bigint, response_bucket::bigint, count(*),
       count(*) FILTER (WHERE {_FAILED})
  FROM request_timing
 WHERE series_id = ANY(%(ids)s) AND at >= %(since)s AND at < %(until)s
   AND flags & {EventFlag.RAMP_UP:d} = 0 AND error <> {ErrorKind.CANCELLED:d}
 GROUP BY 1, 2, 3
"""  # noqa: S608 - built from this module's own constants

_ROLLUPS = """
WITH told AS (
    SELECT series_id::bigint, floor(extract(epoch FROM at) / %(step)s)::bigint AS step, failed, response
      FROM {table} WHERE series_id = ANY(%(ids)s) AND NOT ramp_up AND NOT cancelled AND n > 0
)
SELECT series_id, step, histogram_bucket(element)::bigint, sum(histogram_count(element))::bigint, 0::bigint
  FROM told CROSS JOIN LATERAL unnest(response) AS element GROUP BY 1, 2, 3
 UNION ALL
SELECT series_id, step, min(histogram_bucket(response[1]))::bigint, 0::bigint, sum(failed)::bigint
  FROM told GROUP BY 1, 2
"""

_KNOWN = """
SELECT coalesce(sum(n), 0)::bigint AS n, count(DISTINCT at) AS steps
  FROM {table} WHERE series_id = ANY(%(ids)s) AND NOT ramp_up AND NOT cancelled
"""

_FIGURES = """
SELECT s.run, s.system, s.scenario, s.action, s.kind, sum(h.n)::bigint AS n, sum(h.failed)::bigint AS failed,
       histogram_percentile_us(histogram_sum(h.response), 0.5) / 1000 AS p50_ms,
       histogram_percentile_us(histogram_sum(h.response), 0.95) / 1000 AS p95_ms
  FROM timing_hour h JOIN series s USING (series_id)
 WHERE s.run = ANY(%(runs)s) AND NOT h.ramp_up AND NOT h.cancelled GROUP BY 1, 2, 3, 4, 5
"""


async def read_ran(connection: AsyncConnection[Any], run: str) -> RanRow | None:
    """One run; None where there is none."""
    found = await _ran(connection, "r.run = %(run)s", {"run": run, "limit": 1})
    return found[0] if found else None


async def list_ran(connection: AsyncConnection[Any], environment: str, limit: int, like: str) -> list[RanRow]:
    """The runs of an environment that were asked for the scenarios of run ``like``, newest
    first."""
    which = f"""
        r.environment = %(environment)s AND ({_SCENARIOS.format(of="r.desired")})
          = (SELECT ({_SCENARIOS.format(of="w.desired")}) FROM run w WHERE w.run = %(like)s)
    """  # noqa: S608 - built from this module's own constants
    return await _ran(connection, which, {"environment": environment, "limit": limit, "like": like})


async def _ran(connection: AsyncConnection[Any], which: str, asked: Row) -> list[RanRow]:
    async with connection.cursor(row_factory=class_row(RanRow)) as cursor:
        await cursor.execute(_RAN.format(which=which).encode(), asked)
        return await cursor.fetchall()


async def read_compared_steps(connection: AsyncConnection[Any], series_ids: list[int]) -> Steps:
    """These series from the end of ramp-up on, in the finest steps that the store can give of all of it within
    seconds."""
    hours = await list_hours(connection, series_ids)
    known = {table: await _known(connection, table, series_ids) for table in ("timing_hour", "timing_window")}
    stored, windows = known["timing_hour"][0], known["timing_window"]
    if hours and (stored <= ROWS_AT_MOST or windows[1] < STEPS_ENOUGH):
        span_s = (hours[-1].at - hours[0].at + HOUR).total_seconds() if len(hours) > 2 else windows[1] * WINDOW.seconds
        asked = {"ids": series_ids, "since": hours[0].at, "until": hours[-1].at + HOUR}
        steps = await _steps(connection, "request_timing", _ROWS, {**asked, "step": _step_s(span_s, 1)})
        if int(steps.n.sum()) == stored:
            return steps
    whole = windows[0] == stored
    table, grain_s = ("timing_window", WINDOW.seconds) if whole else ("timing_hour", HOUR.seconds)
    step_s = _step_s(known[table][1] * grain_s, grain_s)
    return await _steps(connection, table, _ROLLUPS.format(table=table), {"ids": series_ids, "step": step_s})


def _step_s(span_s: float, grain_s: int) -> int:
    """The shortest step, of whole grains, that cuts a span into no more than ``STEPS_AT_MOST``."""
    return max(1, -(-int(span_s) // (STEPS_AT_MOST * grain_s))) * grain_s


async def _known(connection: AsyncConnection[Any], table: str, series_ids: list[int]) -> tuple[int, int]:
    """Requests that a roll-up holds, and in how many steps of its grain."""
    cursor = await connection.execute(_KNOWN.format(table=table).encode(), {"ids": series_ids})
    row = await cursor.fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


async def _steps(connection: AsyncConnection[Any], source: str, query: str, asked: Row) -> Steps:
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(query.encode(), asked)
        rows = await cursor.fetchall()
    columns = np.array(rows, np.int64).reshape(-1, 5).T
    return Steps(asked["step"], source, *columns)


async def read_figures(connection: AsyncConnection[Any], runs: list[str]) -> list[FigureRow]:
    """Every action of these runs, each as a whole; from the roll-ups that are kept longest."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_FIGURES.encode(), {"runs": runs})
        return [FigureRow(**row) for row in await cursor.fetchall()]
