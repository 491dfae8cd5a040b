"""Named queries of a run as it went: its series, and what each of them did step by step. Reads only.

Figures come from the roll-ups, whatever the size of the run: counts, means and maxima are exact, percentiles
nearest-rank over the histograms, the same as ``shared.histogram`` gives of the same buckets.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row

from shared.store.packed import ranked_columns

WINDOW = timedelta(seconds=10)
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Series:
    """What is the same for all events of one action; ``kind``: ``shared.contracts.timing.Kind``."""

    series_id: int
    system: str
    scenario: str
    action: str
    kind: int


@dataclass(frozen=True, slots=True)
class Hour:
    """How many events of some series ended within the hour that begins at ``at``."""

    at: datetime
    n: int


@dataclass(frozen=True, slots=True)
class StepRow:
    """One series in the step of time that begins at ``at``. Times in ms: service = done - sent, response = done -
    intended. ``count`` holds the ``failed``, the ``cancelled`` and those of ramp-up (``in_ramp_up``) too."""

    series_id: int
    system: str
    scenario: str
    action: str
    kind: int
    at: datetime
    count: int
    failed: int
    cancelled: int
    in_ramp_up: int
    bytes_in: int
    bytes_out: int
    service_mean_ms: float
    service_p50_ms: float
    service_p90_ms: float
    service_p95_ms: float
    service_p99_ms: float
    service_max_ms: float
    response_mean_ms: float
    response_p50_ms: float
    response_p90_ms: float
    response_p95_ms: float
    response_p99_ms: float
    response_max_ms: float


_PERCENTILES = (50, 90, 95, 99)


_STEPS = """
WITH told AS (
    SELECT series_id, date_bin(%(step)s, at, timestamptz '2000-01-01 00:00:00+00') AS at, sum(n)::bigint AS n,
           sum(failed)::bigint AS failed, coalesce(sum(n) FILTER (WHERE cancelled), 0)::bigint AS cancelled,
           coalesce(sum(n) FILTER (WHERE ramp_up), 0)::bigint AS in_ramp_up,
           sum(service_sum_us)::float8 AS service_sum_us, max(service_max_us) AS service_max_us,
           sum(response_sum_us)::float8 AS response_sum_us, max(response_max_us) AS response_max_us,
           sum(bytes_in)::bigint AS bytes_in, sum(bytes_out)::bigint AS bytes_out,
           histogram_sum(service) AS service, histogram_sum(response) AS response
      FROM {table}
     WHERE series_id = ANY(%(ids)s) AND at >= %(since)s AND at < %(until)s GROUP BY 1, 2
)
SELECT series_id, system, scenario, action, kind, at, n AS count, failed, cancelled, in_ramp_up, bytes_in, bytes_out,
       service_sum_us / n / 1000 AS service_mean_ms, service_max_us / 1000::float8 AS service_max_ms, service,
       response_sum_us / n / 1000 AS response_mean_ms, response_max_us / 1000::float8 AS response_max_ms, response
  FROM told JOIN series USING (series_id) ORDER BY at, kind, system, scenario, action
"""

_WINDOWS_COMPLETE = """
SELECT (SELECT coalesce(sum(n), 0) FROM timing_window WHERE series_id = ANY(%(ids)s))
     = (SELECT coalesce(sum(n), 0) FROM timing_hour WHERE series_id = ANY(%(ids)s))
"""


async def list_series(connection: AsyncConnection[Any], run: str) -> list[Series]:
    """The series of a run: requests first, then workflows and groups."""
    async with connection.cursor(row_factory=class_row(Series)) as cursor:
        await cursor.execute(
            "SELECT series_id, system, scenario, action, kind FROM series WHERE run = %s ORDER BY kind, 2, 3, 4", (run,)
        )
        return await cursor.fetchall()


async def list_hours(connection: AsyncConnection[Any], series_ids: list[int]) -> list[Hour]:
    """The hours in which anything of these series ended, in order; every stored event counts in one of them."""
    async with connection.cursor(row_factory=class_row(Hour)) as cursor:
        await cursor.execute(
            "SELECT at, sum(n)::bigint AS n FROM timing_hour WHERE series_id = ANY(%s) GROUP BY 1 ORDER BY 1",
            (series_ids,),
        )
        return await cursor.fetchall()


async def find_grain(connection: AsyncConnection[Any], series_ids: list[int]) -> timedelta:
    """The finest step in which these series are known from end to end: ten seconds, or an hour past their age."""
    found = await connection.execute(_WINDOWS_COMPLETE, {"ids": series_ids})
    row = await found.fetchone()
    return WINDOW if row and row[0] else HOUR


async def read_steps(
    connection: AsyncConnection[Any], series_ids: list[int], since: datetime, until: datetime, step: timedelta
) -> list[StepRow]:
    """What these series did from one moment to another, step by step; steps without an event are left out.

    ``step``: a multiple of ``WINDOW``; from one of ``HOUR`` on it is read from what is kept longest.
    """
    table = "timing_window" if step % HOUR else "timing_hour"
    async with connection.cursor(row_factory=dict_row, binary=True) as cursor:
        await cursor.execute(
            _STEPS.format(table=table).encode(), {"ids": series_ids, "since": since, "until": until, "step": step}
        )
        return [_ranked(row) for row in await cursor.fetchall()]


def _ranked(row: dict[str, Any]) -> StepRow:
    service, response = [row.pop("service")], [row.pop("response")]
    return StepRow(
        **row,
        **ranked_columns("service", service, _PERCENTILES),
        **ranked_columns("response", response, _PERCENTILES),
    )
