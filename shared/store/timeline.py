"""Named queries of a run's course: the requests of each system and the workflows of each scenario, step by step.

Of a run of few requests it is drawn from the rows, to the second; of others from the roll-ups, so that it costs about
the same whatever the size of the run. Reads only.
"""

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from shared.contracts.timing import Check, ErrorKind, Kind
from shared.store.figures import Step
from shared.store.packed import CHUNK, ranked_columns

ROWS_FOR_TIMELINE = 250_000
"""Of so many requests a time line is drawn from the rows; of more from the roll-ups."""
WINDOW_S, HOUR_S = 10, 3_600
HOURS_FROM_S = 86_400.0
"""A run as long has its time line by the hour."""

_PERCENTS = (50, 95, 99)
_FAILED = f"(t.error NOT IN ({ErrorKind.OK:d}, {ErrorKind.CANCELLED:d}) OR t.check_result = {Check.FAILED:d})"
_SERIES = "SELECT series_id, system, scenario, kind FROM series WHERE run = %s AND kind = ANY(%s)"
_LINES = "unnest(%(ids)s::integer[], %(lines)s::integer[]) AS s (series_id, line)"
_AT = "date_bin(%(step)s, t.at, timestamptz '1970-01-01 00:00:00+00')"


def _of_rows(of: int, name: str) -> str:
    return ", ".join(
        f"min(histogram_value_us(bucket)) FILTER (WHERE of = {of} "
        f"AND upto >= greatest(1, ceil({percent / 100} * total - 1e-9))) / 1000 AS {name}_p{percent}_ms"
        for percent in _PERCENTS
    )


def _counted(of: int, name: str) -> str:
    return f"""
    SELECT series_id, {_AT} AS at, {of} AS of, {name}_bucket AS bucket, count(*) AS n,
           count(*) FILTER (WHERE {_FAILED}) AS failed
      FROM request_timing t WHERE series_id = ANY(%(ids)s) AND t.at >= %(since)s AND t.at < %(until)s
     GROUP BY 1, 2, 4"""  # noqa: S608 - built from this module's own constants


# Lines are numbers here: names are slow to sort by.
_FROM_ROWS = f"""
WITH counted AS ({_counted(0, "service")} UNION ALL {_counted(1, "response")}
), merged AS (
    SELECT line, at, of, bucket, sum(n)::float8 AS n, sum(failed)::float8 AS failed
      FROM counted JOIN {_LINES} USING (series_id) GROUP BY 1, 2, 3, 4
), told AS (
    SELECT *, sum(n) OVER (whole ORDER BY bucket) AS upto, sum(n) OVER whole AS total
      FROM merged WINDOW whole AS (PARTITION BY line, at, of)
)
SELECT line, extract(epoch FROM at)::bigint AS second, (sum(n) FILTER (WHERE of = 0))::bigint AS count,
       (sum(failed) FILTER (WHERE of = 0))::bigint AS failed, {_of_rows(0, "service")}, {_of_rows(1, "response")}
  FROM told GROUP BY line, at ORDER BY at, line
"""  # noqa: S608 - built from this module's own constants

_FROM_ROLLUPS = f"""
SELECT extract(epoch FROM {_AT})::bigint AS second, line, t.n, t.failed, t.service, t.response
  FROM {{table}} t JOIN {_LINES} USING (series_id) WHERE t.series_id = ANY(%(ids)s) ORDER BY 1, 2
"""  # noqa: S608 - built from this module's own constants

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TimelinePlan:
    """Seconds between two points, and from which of the store's tables they are drawn."""

    step_s: int
    table: str


def plan_timeline(duration_s: float, stored: int, points: int) -> TimelinePlan:
    """A time line of at most so many points of a run with so many stored events."""
    step_s = max(1, math.ceil(duration_s / points))
    if duration_s >= HOURS_FROM_S:
        return TimelinePlan(math.ceil(step_s / HOUR_S) * HOUR_S, "timing_hour")
    if stored > ROWS_FOR_TIMELINE:
        return TimelinePlan(math.ceil(step_s / WINDOW_S) * WINDOW_S, "timing_window")
    return TimelinePlan(step_s, "request_timing")


async def read_timeline(
    connection: AsyncConnection[Any], run: str, since: datetime, until: datetime, plan: TimelinePlan
) -> list[Step]:
    """Every step in which anything ended, in order of time, the requests of systems before the workflows."""
    found = await connection.execute(_SERIES, (run, [int(Kind.REQUEST), int(Kind.WORKFLOW)]))
    # Workflows belong to a scenario, the requests of all scenarios to a system.
    line_of = {
        number: (kind, system, scenario if kind == Kind.WORKFLOW else "")
        for number, system, scenario, kind in await found.fetchall()
    }
    lines = sorted(set(line_of.values()))
    asked = {
        "ids": list(line_of),
        "lines": [lines.index(line) for line in line_of.values()],
        "since": since,
        "until": until,
        "step": timedelta(seconds=plan.step_s),
    }
    told = _from_rows(connection, asked) if plan.table == "request_timing" else _of_table(connection, plan.table, asked)
    steps = []
    async for row in told:
        kind, system, scenario = lines[row.pop("line")]
        steps.append(Step(system=system, scenario=scenario, kind=kind, **row))
    return steps


async def _from_rows(connection: AsyncConnection[Any], asked: Row) -> AsyncIterator[Row]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_FROM_ROWS.encode(), asked)
        for row in await cursor.fetchall():
            yield row


async def _of_table(connection: AsyncConnection[Any], table: str, asked: Row) -> AsyncIterator[Row]:
    """From the roll-ups of a table, of which only those of one step are held at a time."""
    step: tuple[int, int] | None = None
    held: list[tuple[int, int, list[int], list[int]]] = []
    async with connection.cursor(binary=True) as cursor:
        async for second, line, *told in cursor.stream(_FROM_ROLLUPS.format(table=table).encode(), asked, size=CHUNK):
            if step is not None and step != (second, line):
                yield _step_of(*step, held)
                held = []
            step = (second, line)
            held.append(tuple(told))
    if step is not None:
        yield _step_of(*step, held)


def _step_of(second: int, line: int, held: list[tuple[int, int, list[int], list[int]]]) -> Row:
    counts, failed, service, response = zip(*held, strict=True)
    return {
        "line": line,
        "second": second,
        "count": sum(counts),
        "failed": sum(failed),
        **ranked_columns("service", service, _PERCENTS),
        **ranked_columns("response", response, _PERCENTS),
    }
