"""Named queries of a run's course: the requests of each system and the workflows of each scenario, step by step.

Of a run of few requests it is drawn from the rows, to the second; of others from the roll-ups, so that it costs about
the same whatever the size of the run. Reads only.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from shared.contracts.timing import Check, ErrorKind, Kind
from shared.store.figures import Step
from shared.store.percentiles import ranked

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
WITH told AS (
    SELECT line, {_AT} AS at, sum(t.n)::bigint AS count, sum(t.failed)::bigint AS failed,
           histogram_sum(t.service) AS service, histogram_sum(t.response) AS response
      FROM {{table}} t JOIN {_LINES} USING (series_id) WHERE t.series_id = ANY(%(ids)s) GROUP BY 1, 2
)
SELECT line, extract(epoch FROM at)::bigint AS second, count, failed,
       {", ".join(f"{name}_p{percent}_ms" for name in ("service", "response") for percent in _PERCENTS)}
  FROM told {ranked("service", _PERCENTS)} {ranked("response", _PERCENTS)} ORDER BY at, line
"""  # noqa: S608 - built from this module's own constants


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
    query = _FROM_ROWS if plan.table == "request_timing" else _FROM_ROLLUPS.format(table=plan.table)
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), asked)
        rows = await cursor.fetchall()
    steps = []
    for row in rows:
        kind, system, scenario = lines[row.pop("line")]
        steps.append(Step(system=system, scenario=scenario, kind=kind, **row))
    return steps
