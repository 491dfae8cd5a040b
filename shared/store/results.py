"""Named queries of a run's results: counts, times, errors, resources, breaches and decisions. Reads only.

Percentiles are nearest-rank over the stored buckets (``percentile_disc``), means and maxima of the exact columns.
``failed`` is what the windows call failed: an error other than a cancelled request, or an expectation not met.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from shared.contracts.timing import Check, ErrorKind, Kind
from shared.store.figures import SeriesAfter, SeriesResult, Stored, Times

Row = dict[str, Any]
SCRAPE_GAP_S = 3
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}

_FAILED = f"(t.error NOT IN ({ErrorKind.OK:d}, {ErrorKind.CANCELLED:d}) OR t.check_result = {Check.FAILED:d})"

_SERIES = f"""
SELECT s.series_id, s.system, s.scenario, s.action, s.kind,
       count(t.at) AS stored,
       count(t.at) FILTER (WHERE {_FAILED}) AS failed,
       count(t.at) FILTER (WHERE t.error = {ErrorKind.CANCELLED:d}) AS cancelled,
       avg(t.service_us)::float8 AS service_mean_us, max(t.service_us) AS service_max_us,
       avg(t.service_us + t.dispatch_us)::float8 AS response_mean_us,
       max(t.service_us + t.dispatch_us) AS response_max_us
  FROM series s LEFT JOIN request_timing t ON t.series_id = s.series_id AND t.at >= %(since)s
 WHERE s.run = %(run)s
 GROUP BY s.series_id ORDER BY s.scenario, s.system, s.action, s.kind
"""  # noqa: S608 - built from this module's own constants

_SENT = """
SELECT c.series_id, sum(c.sent)::bigint AS sent, (sum(c.in_flight) FILTER (WHERE NOT p.final))::bigint AS held
  FROM sent_counter c JOIN producer p USING (producer_id) WHERE p.run = %(run)s GROUP BY c.series_id
"""

_PERCENTILES = """
WITH counted AS (
    SELECT t.series_id, t.{column} AS bucket, count(*) AS n
      FROM request_timing t JOIN series s USING (series_id)
     WHERE s.run = %(run)s AND t.at >= %(since)s GROUP BY 1, 2
), ranked AS (
    SELECT series_id, bucket, sum(n) OVER (PARTITION BY series_id ORDER BY bucket) AS upto,
           sum(n) OVER (PARTITION BY series_id) AS total
      FROM counted
)
SELECT series_id, q, min(histogram_value_us(bucket)) AS value_us
  FROM ranked CROSS JOIN unnest(%(qs)s::float8[]) AS q
 WHERE upto >= greatest(1, ceil(q * total::float8 - 1e-9)) GROUP BY 1, 2
"""

_ERRORS = """
SELECT t.series_id, t.error, count(*) AS n FROM request_timing t JOIN series s USING (series_id)
 WHERE s.run = %(run)s AND t.at >= %(since)s AND t.error <> 0 GROUP BY 1, 2
"""

_AFTER = f"""
SELECT t.series_id, t.response_bucket AS bucket, count(*) AS n, count(*) FILTER (WHERE {_FAILED}) AS failed,
       sum(t.service_us + t.dispatch_us)::bigint AS sum_us
  FROM request_timing t JOIN series s USING (series_id)
 WHERE s.run = %(run)s AND t.at >= %(since)s AND t.error <> {ErrorKind.CANCELLED:d} GROUP BY 1, 2
"""  # noqa: S608 - built from this module's own constants

_TIMELINE = f"""
WITH counted AS (
    SELECT s.system, (floor(extract(epoch FROM t.at) / %(step)s) * %(step)s)::bigint AS second,
           t.response_bucket AS bucket, count(*) AS n, count(*) FILTER (WHERE {_FAILED}) AS failed
      FROM request_timing t JOIN series s USING (series_id)
     WHERE s.run = %(run)s AND s.kind = {Kind.REQUEST:d} AND t.at >= %(since)s GROUP BY 1, 2, 3
), ranked AS (
    SELECT *, sum(n) OVER (PARTITION BY system, second ORDER BY bucket) AS upto,
           sum(n) OVER (PARTITION BY system, second) AS total FROM counted
)
SELECT system, second, sum(n)::bigint AS count, sum(failed)::bigint AS failed,
       min(histogram_value_us(bucket)) FILTER (WHERE upto >= ceil(0.95 * total - 1e-9)) AS p95_us
  FROM ranked GROUP BY 1, 2 ORDER BY 2, 1
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
SELECT coalesce((SELECT sum(f.events) FROM frames f JOIN producer p USING (producer_id) WHERE p.run = %(run)s), 0)
           ::bigint AS stored,
       coalesce((SELECT sum(c.sent) FROM sent_counter c JOIN producer p USING (producer_id) WHERE p.run = %(run)s), 0)
           ::bigint AS sent,
       coalesce((SELECT sum(c.in_flight) FROM sent_counter c JOIN producer p USING (producer_id)
                  WHERE p.run = %(run)s AND NOT p.final), 0)::bigint AS held
"""

_PRODUCERS = """
SELECT p.worker, p.epoch, p.system, p.last_seq, p.final, count(f.seq) AS frames
  FROM producer p LEFT JOIN frames f USING (producer_id) WHERE p.run = %(run)s GROUP BY p.producer_id
"""


async def read_series(connection: AsyncConnection[Any], run: str, since: datetime) -> list[SeriesResult]:
    """Every series of a run with its counts and times. ``since`` bounds the partitions that are looked at."""
    asked = {"run": run, "since": since, "qs": list(PERCENTILES.values())}
    names = {q: name for name, q in PERCENTILES.items()}
    sent = {row["series_id"]: row for row in await _rows(connection, _SENT, asked)}
    errors: dict[int, dict[int, int]] = {}
    for row in await _rows(connection, _ERRORS, asked):
        errors.setdefault(row["series_id"], {})[row["error"]] = row["n"]
    times: dict[str, dict[int, dict[str, float]]] = {"service": {}, "response": {}}
    for of, by_series in times.items():
        for row in await _rows(connection, _PERCENTILES.format(column=f"{of}_bucket"), asked):
            by_series.setdefault(row["series_id"], {})[names[row["q"]]] = row["value_us"] / 1e3

    def read_times(row: Row, of: str) -> Times:
        mean, most = row[f"{of}_mean_us"], row[f"{of}_max_us"]
        if mean is None:
            return Times()
        return Times(mean / 1e3, most / 1e3, times[of].get(row["series_id"], {}))

    return [
        SeriesResult(
            series_id=row["series_id"],
            system=row["system"],
            scenario=row["scenario"],
            action=row["action"],
            kind=Kind(row["kind"]),
            sent=sent.get(row["series_id"], {}).get("sent") or 0,
            held=sent.get(row["series_id"], {}).get("held") or 0,
            stored=row["stored"],
            failed=row["failed"],
            cancelled=row["cancelled"],
            errors=errors.get(row["series_id"], {}),
            service=read_times(row, "service"),
            response=read_times(row, "response"),
        )
        for row in await _rows(connection, _SERIES, asked)
    ]


async def read_after(connection: AsyncConnection[Any], run: str, since: datetime) -> dict[int, SeriesAfter]:
    """By series: what ended at or after a moment, cancelled requests left out."""
    parts: dict[int, SeriesAfter] = {}
    for row in await _rows(connection, _AFTER, {"run": run, "since": since}):
        before = parts.get(row["series_id"], SeriesAfter({}, 0, 0))
        parts[row["series_id"]] = SeriesAfter(
            {**before.response, row["bucket"]: row["n"]}, before.sum_us + row["sum_us"], before.failed + row["failed"]
        )
    return parts


async def read_timeline(connection: AsyncConnection[Any], run: str, since: datetime, step_s: int) -> list[Row]:
    """Per system and step of seconds: ``system, second, count, failed, p95_us`` (response time), in order of time."""
    return await _rows(connection, _TIMELINE, {"run": run, "since": since, "step": step_s})


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
