"""Named queries of a run's course: the requests of each system and the workflows of each scenario, step by step.

Of a run of few requests it is drawn from the rows, to the second; of others from the roll-ups, so that it costs about
the same whatever the size of the run. Reads only.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

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
# Workflows belong to a scenario, the requests of all scenarios to a system.
_LINE = f"s.system, CASE s.kind WHEN {Kind.WORKFLOW:d} THEN s.scenario ELSE '' END AS scenario, s.kind"
_SERIES = "SELECT series_id FROM series WHERE run = %s AND kind = ANY(%s)"
_AT = "date_bin(%(step)s, t.at, timestamptz '1970-01-01 00:00:00+00')"
_SECOND = "extract(epoch FROM at)::bigint AS second"


def _of_rows(name: str) -> str:
    return ", ".join(
        f"min(histogram_value_us(bucket)) FILTER (WHERE of = '{name}' "
        f"AND upto >= greatest(1, ceil({percent / 100} * total - 1e-9))) / 1000 AS {name}_p{percent}_ms"
        for percent in _PERCENTS
    )


def _counted(name: str) -> str:
    """Rows of one series, step and bucket are counted before any name is looked at: names are slow to compare."""
    return f"""
    SELECT series_id, {_AT} AS at, '{name}' AS of, {name}_bucket AS bucket, count(*) AS n,
           count(*) FILTER (WHERE {_FAILED}) AS failed
      FROM request_timing t WHERE series_id = ANY(%(ids)s) AND t.at >= %(since)s AND t.at < %(until)s
     GROUP BY 1, 2, 4"""  # noqa: S608 - built from this module's own constants


_FROM_ROWS = f"""
WITH counted AS ({_counted("service")} UNION ALL {_counted("response")}
), merged AS (
    SELECT {_LINE}, at, of, bucket, sum(n) AS n, sum(failed) AS failed
      FROM counted JOIN series s USING (series_id) GROUP BY 1, 2, 3, 4, 5, 6
), told AS (
    SELECT *, (sum(n) OVER (whole ORDER BY bucket))::float8 AS upto, (sum(n) OVER whole)::float8 AS total
      FROM merged WINDOW whole AS (PARTITION BY system, scenario, kind, at, of)
)
SELECT system, scenario, kind, {_SECOND}, (sum(n) FILTER (WHERE of = 'service'))::bigint AS count,
       (sum(failed) FILTER (WHERE of = 'service'))::bigint AS failed, {_of_rows("service")}, {_of_rows("response")}
  FROM told GROUP BY 1, 2, 3, at ORDER BY 4, 3, 1, 2
"""  # noqa: S608 - built from this module's own constants

_FROM_ROLLUPS = f"""
WITH told AS (
    SELECT {_LINE}, {_AT} AS at, sum(t.n)::bigint AS count, sum(t.failed)::bigint AS failed,
           histogram_sum(t.service) AS service, histogram_sum(t.response) AS response
      FROM {{table}} t JOIN series s USING (series_id) WHERE t.series_id = ANY(%(ids)s) GROUP BY 1, 2, 3, 4
)
SELECT system, scenario, kind, {_SECOND}, count, failed,
       {", ".join(f"{name}_p{percent}_ms" for name in ("service", "response") for percent in _PERCENTS)}
  FROM told {ranked("service", _PERCENTS)} {ranked("response", _PERCENTS)} ORDER BY 4, 3, 1, 2
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
    ids = [number for (number,) in await found.fetchall()]
    asked = {"ids": ids, "since": since, "until": until, "step": timedelta(seconds=plan.step_s)}
    query = _FROM_ROWS if plan.table == "request_timing" else _FROM_ROLLUPS.format(table=plan.table)
    async with connection.cursor(row_factory=class_row(Step)) as cursor:
        await cursor.execute(query.encode(), asked)
        return await cursor.fetchall()
