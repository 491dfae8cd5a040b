"""Named queries of a run's results: counts, times, errors, resources, breaches and decisions. Reads only.

Counts and times come from the roll-ups, which say the same as the rows, whatever the size of the run; percentiles are
nearest-rank over their histograms (``percentile_disc``), means and maxima exact. ``failed`` is what the windows call
failed: an error other than a cancelled request, or an expectation not met.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from shared.contracts.timing import Check, ErrorKind, Kind
from shared.histogram import Histogram
from shared.store.figures import SeriesAfter, SeriesResult, Stored, Streaming, Times

Row = dict[str, Any]
SCRAPE_GAP_S = 3
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
ROWS_FOR_TIMELINE = 1_000_000
"""Of so many requests a time line is drawn from the rows, to the second; of more from the roll-ups."""
WINDOW_S, HOUR_S = 10, 3_600
HOURS_FROM_S = 86_400.0
"""A run as long has its time line by the hour."""

_FAILED = f"(t.error NOT IN ({ErrorKind.OK:d}, {ErrorKind.CANCELLED:d}) OR t.check_result = {Check.FAILED:d})"

_SERIES = "SELECT series_id, system, scenario, action, kind FROM series WHERE run = %(run)s ORDER BY 3, 2, 4, 5"

_TOTALS = """
SELECT series_id, sum(n)::bigint AS n, sum(failed)::bigint AS failed,
       coalesce(sum(n) FILTER (WHERE cancelled), 0)::bigint AS cancelled,
       sum(service_sum_us)::float8 AS service_sum_us, max(service_max_us) AS service_max_us,
       sum(response_sum_us)::float8 AS response_sum_us, max(response_max_us) AS response_max_us,
       sum(streams)::bigint AS streams, sum(tokens)::bigint AS tokens, sum(stream_us)::float8 AS stream_us
  FROM timing_hour WHERE series_id = ANY(%(ids)s) GROUP BY 1
"""

_AFTER = """
SELECT series_id, sum(failed)::bigint AS failed, sum(response_sum_us)::bigint AS sum_us
  FROM timing_hour WHERE series_id = ANY(%(ids)s) AND NOT ramp_up AND NOT cancelled GROUP BY 1
"""

_HISTOGRAM = """
SELECT series_id, histogram_bucket(element) AS bucket, sum(histogram_count(element))::bigint AS n
  FROM timing_hour CROSS JOIN LATERAL unnest({column}) AS element
 WHERE series_id = ANY(%(ids)s) AND {which} GROUP BY 1, 2
"""
_ALL, _JUDGED = "true", "NOT ramp_up AND NOT cancelled"

_SENT = """
SELECT c.series_id, sum(c.sent)::bigint AS sent, (sum(c.in_flight) FILTER (WHERE NOT p.final))::bigint AS held
  FROM sent_counter c JOIN producer p USING (producer_id) WHERE p.run = %(run)s GROUP BY c.series_id
"""

_TIMELINE_OF_ROWS = f"""
WITH counted AS (
    SELECT s.system, (floor(extract(epoch FROM t.at) / %(step)s) * %(step)s)::bigint AS second,
           t.response_bucket AS bucket, count(*) AS n, count(*) FILTER (WHERE {_FAILED}) AS failed
      FROM request_timing t JOIN series s USING (series_id)
     WHERE s.run = %(run)s AND s.kind = {Kind.REQUEST:d} AND t.at >= %(since)s AND t.at < %(until)s GROUP BY 1, 2, 3
), ranked AS (
    SELECT *, sum(n) OVER (PARTITION BY system, second ORDER BY bucket) AS upto,
           sum(n) OVER (PARTITION BY system, second) AS total FROM counted
)
SELECT system, second, sum(n)::bigint AS count, sum(failed)::bigint AS failed,
       min(histogram_value_us(bucket)) FILTER (WHERE upto >= ceil(0.95 * total - 1e-9)) AS p95_us
  FROM ranked GROUP BY 1, 2 ORDER BY 2, 1
"""  # noqa: S608 - built from this module's own constants

_TIMELINE_OF_ROLLUPS = f"""
SELECT system, second, sum(n)::bigint AS count, sum(failed)::bigint AS failed,
       histogram_percentile_us(histogram_sum(response), 0.95) AS p95_us
  FROM (SELECT s.system, (floor(extract(epoch FROM t.at) / %(step)s) * %(step)s)::bigint AS second, t.n, t.failed,
               t.response
          FROM {{table}} t JOIN series s USING (series_id)
         WHERE t.series_id = ANY(%(ids)s) AND s.kind = {Kind.REQUEST:d}) AS told
 GROUP BY 1, 2 ORDER BY 2, 1
"""  # noqa: S608 - built from this module's own constants

_RESOURCES = """
SELECT system, metric, second, avg(told) AS mean, max(told) AS max, sum(told) AS sum
  FROM (SELECT r.system, r.instance, v.key AS metric, floor(extract(epoch FROM r.at))::bigint AS second,
               avg((v.value #>> '{}')::float8) AS told
          FROM resource_sample r CROSS JOIN jsonb_each(r.values) AS v
         WHERE r.environment = %(environment)s AND r.at >= %(since)s AND r.at < %(until)s
           AND r.ready AND jsonb_typeof(v.value) = 'number'
         GROUP BY 1, 2, 3, 4) AS told
 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""

_REPLICAS = """
WITH told AS (
    SELECT service, instance, ready, floor(extract(epoch FROM at))::bigint AS second,
           lead(floor(extract(epoch FROM at))::bigint) OVER (PARTITION BY service, instance ORDER BY at) AS next
      FROM resource_sample WHERE environment = %(environment)s AND at >= %(since)s AND at < %(until)s
)
SELECT service, s / %(step)s * %(step)s AS second,
       count(DISTINCT instance) FILTER (WHERE ready) AS ready, count(DISTINCT instance) AS instances
  FROM told CROSS JOIN generate_series(second, CASE WHEN next - second <= %(gap)s + 1 THEN greatest(second, next - 1)
                                                    ELSE second END) AS s
 GROUP BY 1, 2 ORDER BY 2, 1
"""

_BREACHES = """
SELECT DISTINCT ON (breach) event FROM breach_revision WHERE run = %(run)s ORDER BY breach, revision DESC
"""

_SCALING = """
SELECT record FROM scaling_record
 WHERE environment = %(environment)s AND at >= %(since)s AND at < %(until)s ORDER BY at, service, sequence
"""

_STORED = """
SELECT coalesce((SELECT sum(events) FROM producer WHERE run = %(run)s), 0)::bigint AS stored,
       coalesce((SELECT sum(c.sent) FROM sent_counter c JOIN producer p USING (producer_id) WHERE p.run = %(run)s), 0)
           ::bigint AS sent,
       coalesce((SELECT sum(c.in_flight) FROM sent_counter c JOIN producer p USING (producer_id)
                  WHERE p.run = %(run)s AND NOT p.final), 0)::bigint AS held
"""

_PRODUCERS = "SELECT worker, epoch, system, last_seq, frames FROM producer WHERE run = %(run)s"


async def read_series(connection: AsyncConnection[Any], run: str) -> list[SeriesResult]:
    """Every series of a run with its counts and times."""
    listed = await _rows(connection, _SERIES, {"run": run})
    asked = {"run": run, "ids": [row["series_id"] for row in listed]}
    totals = {row["series_id"]: row for row in await _rows(connection, _TOTALS, asked)}
    sent = {row["series_id"]: row for row in await _rows(connection, _SENT, asked)}
    errors, service, response, ttft, gap = [
        await _histograms(connection, column, _ALL, asked)
        for column in ("errors", "service", "response", "ttft", "gap")
    ]

    def result(row: Row) -> SeriesResult:
        number = row["series_id"]
        total, counter = totals.get(number), sent.get(number, {})
        return SeriesResult(
            series_id=number,
            system=row["system"],
            scenario=row["scenario"],
            action=row["action"],
            kind=Kind(row["kind"]),
            sent=counter.get("sent") or 0,
            held=counter.get("held") or 0,
            stored=total["n"] if total else 0,
            failed=total["failed"] if total else 0,
            cancelled=total["cancelled"] if total else 0,
            errors=errors[number].counts if number in errors else {},
            service=_times(total, "service", service.get(number)),
            response=_times(total, "response", response.get(number)),
            streaming=_streaming(total, ttft.get(number), gap.get(number)),
        )

    return [result(row) for row in listed]


def _times(total: Row | None, of: str, histogram: Histogram | None) -> Times:
    if total is None or histogram is None:
        return Times()
    return Times(total[f"{of}_sum_us"] / total["n"] / 1e3, total[f"{of}_max_us"] / 1e3, _percentiles_ms(histogram))


def _percentiles_ms(histogram: Histogram) -> dict[str, float]:
    found = {name: histogram.percentile_us(q) for name, q in PERCENTILES.items()}
    return {name: value / 1e3 for name, value in found.items() if value is not None}


def _streaming(total: Row | None, ttft: Histogram | None, gap: Histogram | None) -> Streaming | None:
    if total is None or ttft is None or gap is None:
        return None
    later, stream_s = total["tokens"] - total["streams"], total["stream_us"] / 1e6
    return Streaming(
        answers=total["streams"],
        tokens=total["tokens"],
        tokens_per_s=later / stream_s if later and stream_s else None,
        first_token=Times(percentiles=_percentiles_ms(ttft)),
        longest_gap=Times(percentiles=_percentiles_ms(gap)),
    )


async def read_after_ramp_up(connection: AsyncConnection[Any], run: str) -> dict[int, SeriesAfter]:
    """By series: what was due after ramp-up, cancelled requests left out."""
    asked = {"ids": [row["series_id"] for row in await _rows(connection, _SERIES, {"run": run})]}
    response = await _histograms(connection, "response", _JUDGED, asked)
    return {
        row["series_id"]: SeriesAfter(response[row["series_id"]].counts, row["sum_us"], row["failed"])
        for row in await _rows(connection, _AFTER, asked)
    }


async def _histograms(connection: AsyncConnection[Any], column: str, which: str, asked: Row) -> dict[int, Histogram]:
    found: dict[int, Histogram] = {}
    for row in await _rows(connection, _HISTOGRAM.format(column=column, which=which), asked):
        found.setdefault(row["series_id"], Histogram()).add(row["bucket"], row["n"])
    return found


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
) -> list[Row]:
    """Per system and step: ``system, second, count, failed, p95_us`` (response time), in order of time."""
    asked: Row = {"run": run, "since": since, "until": until, "step": plan.step_s}
    if plan.table == "request_timing":
        return await _rows(connection, _TIMELINE_OF_ROWS, asked)
    asked["ids"] = [row["series_id"] for row in await _rows(connection, _SERIES, asked)]
    return await _rows(connection, _TIMELINE_OF_ROLLUPS.format(table=plan.table), asked)


async def read_resources(
    connection: AsyncConnection[Any], environment: str, since: datetime, until: datetime
) -> list[Row]:
    """Per system, metric and second: ``mean``, ``max`` and ``sum`` over ready instances, in order of time."""
    return await _rows(connection, _RESOURCES, {"environment": environment, "since": since, "until": until})


async def read_replicas(
    connection: AsyncConnection[Any], environment: str, since: datetime, until: datetime, step_s: int
) -> list[Row]:
    """Per service and step of seconds: how many instances were seen and how many of them ready.

    An instance that was not scraped for up to ``SCRAPE_GAP_S`` seconds is as it was before them.
    """
    asked = {"environment": environment, "since": since, "until": until, "step": step_s, "gap": SCRAPE_GAP_S}
    return await _rows(connection, _REPLICAS, asked)


async def read_breaches(connection: AsyncConnection[Any], run: str) -> list[Row]:
    """The latest event of every episode of a run, as plain ``shared.contracts.breach.Breach``."""
    return [row["event"].get("data", row["event"]) for row in await _rows(connection, _BREACHES, {"run": run})]


async def read_scaling(
    connection: AsyncConnection[Any], environment: str, since: datetime, until: datetime
) -> list[Row]:
    """The audit's records between two moments, oldest first."""
    asked = {"environment": environment, "since": since, "until": until}
    return [row["record"] for row in await _rows(connection, _SCALING, asked)]


async def read_stored(connection: AsyncConnection[Any], run: str) -> Stored:
    """How much of a run has been committed, cheap enough to be asked each half second."""
    (counts,) = await _rows(connection, _STORED, {"run": run})
    frames: Iterable[Row] = await _rows(connection, _PRODUCERS, {"run": run})
    return Stored(
        counts["stored"],
        counts["sent"],
        counts["held"],
        {(row["worker"], row["epoch"], row["system"]): (row["last_seq"], row["frames"]) for row in frames},
    )


async def _rows(connection: AsyncConnection[Any], query: str, arguments: Row) -> list[Row]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), arguments)
        return await cursor.fetchall()
