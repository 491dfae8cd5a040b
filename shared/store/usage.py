"""Named queries of what services use: by steps of time, memory of each instance, calls between services. Reads only.

Up to ``SAMPLES_UP_TO`` they look at the samples, past it at the minutes: a day of both says the same, and the minutes
are a hundredth. Everything is of one environment; spans know none.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row

from shared.contracts.timing import Kind
from shared.histogram import MAX_BUCKET
from shared.store.figures import CallTimes, MemoryPoint, Served, UsageDay, UsageStep
from shared.store.spans import plan_slices

SAMPLES_UP_TO, MEMORY_SAMPLES_UP_TO = timedelta(minutes=15), timedelta(hours=2)
STEP, MINUTE = timedelta(seconds=10), timedelta(minutes=1)
MOST_STEPS = 1_500
LOADS = ("request_rate", "cpu_cores", "cpu_usage")
CLIENT, SERVER, ERROR = 3, 2, 2
"""Of OpenTelemetry's ``SpanKind``, and of its ``StatusCode``."""

_OF = "environment = %(environment)s AND at >= %(since)s AND at < %(until)s"
_SERVICE = "(%(service)s::text IS NULL OR service = %(service)s)"
_AT = "date_bin(%(step)s, at, timestamptz '2000-01-01 00:00:00+00')"

_FROM_SAMPLES = f"""
SELECT service, max(system) AS system, instance, metric, {_AT} AS at, count(*)::integer AS samples,
       avg(value) AS mean, max(value) AS most, (array_agg(at ORDER BY value DESC, at))[1] AS most_at,
       min(value) AS least
  FROM (SELECT service, system, instance, at, v.key AS metric, (v.value #>> '{{}}')::float8 AS value
          FROM resource_sample CROSS JOIN jsonb_each(values) AS v
         WHERE {_OF} AND {_SERVICE} AND jsonb_typeof(v.value) = 'number') AS told
 GROUP BY service, instance, metric, 5 ORDER BY service, instance, metric, 5
"""  # noqa: S608 - built from this module's own constants

_FROM_MINUTES = f"""
SELECT service, max(system) AS system, instance, metric, {_AT} AS at, sum(n)::integer AS samples,
       sum(total) / sum(n) AS mean, max(most) AS most, (array_agg(most_at ORDER BY most DESC, at))[1] AS most_at,
       min(least) AS least
  FROM resource_minute WHERE {_OF} AND {_SERVICE}
 GROUP BY service, instance, metric, 5 ORDER BY service, instance, metric, 5
"""  # noqa: S608 - built from this module's own constants

_LOAD = "coalesce({})".format(", ".join(f"avg((values ->> '{metric}')::float8)" for metric in LOADS))
_RATE_TOLD = "values ?| ARRAY['cpu_usage', 'cpu_cores']"

_MEMORY_FROM_SAMPLES = f"""
SELECT service, max(system) AS system, instance, {_AT} AS at, min((values ->> 'memory_usage')::float8) AS memory_mb,
       avg((values ->> 'memory_ratio')::float8) AS memory_ratio, {_LOAD} AS load,
       bool_or({_RATE_TOLD}) AS rated, bool_or(NOT {_RATE_TOLD}) AS unrated
  FROM resource_sample WHERE {_OF} AND {_SERVICE} AND values ? 'memory_usage'
 GROUP BY service, instance, 4 ORDER BY service, instance, 4
"""  # noqa: S608 - built from this module's own constants

_RATES = "greatest(sum(n) FILTER (WHERE metric = 'cpu_usage'), sum(n) FILTER (WHERE metric = 'cpu_cores'))"
_MEANS = "sum(total) FILTER (WHERE metric = '{0}') / nullif(sum(n) FILTER (WHERE metric = '{0}'), 0)"

_MEMORY_FROM_MINUTES = f"""
SELECT service, max(system) AS system, instance, {_AT} AS at,
       min(least) FILTER (WHERE metric = 'memory_usage') AS memory_mb, {_MEANS.format("memory_ratio")} AS memory_ratio,
       coalesce({", ".join(_MEANS.format(metric) for metric in LOADS)}) AS load, {_RATES} > 0 AS rated,
       coalesce({_RATES}, 0) < sum(n) FILTER (WHERE metric = 'memory_usage') AS unrated
  FROM resource_minute WHERE {_OF} AND {_SERVICE} AND metric = ANY(%(metrics)s)
 GROUP BY service, instance, 4 HAVING bool_or(metric = 'memory_usage') ORDER BY service, instance, 4
"""  # noqa: S608 - built from this module's own constants

_DAYS = f"""
SELECT service, max(system) AS system, instance, metric, date_trunc('day', at, 'UTC') AS at, sum(n)::integer AS samples,
       sum(total) / sum(n) AS mean, count(*)::integer AS minutes,
       percentile_disc(0.95) WITHIN GROUP (ORDER BY total / n) AS p95
  FROM resource_minute WHERE {_OF} AND {_SERVICE} AND metric = ANY(%(metrics)s)
 GROUP BY service, instance, metric, 5 ORDER BY 5, service, instance, metric
"""  # noqa: S608 - built from this module's own constants

_SIZE = "sum((c.attributes ->> '{}')::float8) FILTER (WHERE jsonb_typeof(c.attributes -> '{}') = 'number')"
_CALLS = f"""
WITH looked_at AS (
    SELECT DISTINCT ON (c.trace_id, c.span_id) c.trace_id, c.span_id, c.service, c.duration_us, c.status, c.attributes
      FROM unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) AS slice (start, stop)
      CROSS JOIN LATERAL (
          SELECT * FROM spans WHERE at >= slice.start AND at < slice.stop AND kind = {CLIENT} OFFSET 0
      ) AS c ORDER BY c.trace_id, c.span_id
), called AS (
    SELECT c.service AS caller, coalesce(s.service, c.attributes ->> 'peer.service', c.attributes ->> 'server.address',
               '') AS callee, c.trace_id, c.status, c.attributes, s.duration_us AS server_us,
           CASE WHEN s.duration_us IS NOT NULL THEN c.duration_us END AS client_us,
           CASE WHEN s.duration_us IS NOT NULL THEN greatest(c.duration_us - s.duration_us, 0) END AS network_us
      FROM looked_at AS c LEFT JOIN LATERAL (
          SELECT service, duration_us FROM spans
           WHERE trace_id = c.trace_id AND parent_span_id = c.span_id AND kind = {SERVER}
             AND at >= %(since)s - interval '1 hour' AND at < %(until)s + interval '1 hour' LIMIT 1
      ) AS s ON true
), bucketed AS (
    SELECT caller, callee, count(*) AS n,
           least(floor(ln(greatest(network_us, 1)::float8) / ln(1.02::float8)), %(most)s)::int AS bucket
      FROM called WHERE network_us IS NOT NULL GROUP BY 1, 2, 4
)
SELECT caller, callee, count(*)::integer AS calls, count(DISTINCT trace_id)::integer AS traces,
       count(server_us)::integer AS answered, (count(*) FILTER (WHERE status = {ERROR}))::integer AS failed,
       coalesce(sum(client_us), 0)::bigint AS client_us, coalesce(sum(server_us), 0)::bigint AS server_us,
       (SELECT coalesce(jsonb_object_agg(bucket, n), '{{}}') FROM bucketed b
         WHERE (b.caller, b.callee) = (c.caller, c.callee)) AS network,
       {_SIZE.format(*["http.request.body.size"] * 2)} AS bytes_sent,
       {_SIZE.format(*["http.response.body.size"] * 2)} AS bytes_received
  FROM called AS c GROUP BY caller, callee ORDER BY caller, callee
"""  # noqa: S608 - built from this module's own constants

_COUNT_CALLS = f"SELECT count(*) FROM spans WHERE at >= %(since)s AND at < %(until)s AND kind = {CLIENT}"  # noqa: S608

_SERVED = f"""
SELECT s.system, {{at}} AS at, sum(w.n)::bigint AS count, sum(w.failed)::bigint AS failed,
       sum(w.bytes_in)::bigint AS bytes_in, sum(w.bytes_out)::bigint AS bytes_out
  FROM run r JOIN series s USING (run) JOIN {{table}} w USING (series_id)
 WHERE s.kind = {Kind.REQUEST:d} AND {{which}} GROUP BY 1, 2 ORDER BY 2, 1
"""  # noqa: S608 - built from this module's own constants

_WITHIN = "r.environment = %(environment)s AND w.at >= %(since)s AND w.at < %(until)s"
_STEPS = _SERVED.format(at="w.at", table="timing_window", which=_WITHIN)
_BY_DAY = _SERVED.format(at="date_trunc('day', w.at, 'UTC')", table="timing_hour", which=_WITHIN)
_BY_RUN = _SERVED.format(at="w.at", table="timing_hour", which="r.run = %(run)s")

_SAMPLED = """
SELECT DISTINCT service FROM resource_minute
 WHERE environment = %(environment)s AND at >= %(since)s - interval '1 minute' AND at < %(until)s ORDER BY 1
"""


def plan_step(span: timedelta) -> timedelta:
    """The step in which a span is read: ten seconds of samples, or minutes, at most ``MOST_STEPS`` of them."""
    if span <= SAMPLES_UP_TO:
        return STEP
    return MINUTE * max(1, -(-span // (MINUTE * MOST_STEPS)))


async def read_usage(
    connection: AsyncConnection[Any],
    environment: str,
    since: datetime,
    until: datetime,
    *,
    service: str | None = None,
) -> list[UsageStep]:
    """What each instance used, by service, instance, metric and step (``plan_step`` of the span)."""
    step = plan_step(until - since)
    asked = {"environment": environment, "since": since, "until": until, "service": service, "step": step}
    query = _FROM_SAMPLES if step == STEP else _FROM_MINUTES
    async with connection.cursor(row_factory=class_row(UsageStep), binary=True) as cursor:
        await cursor.execute(query.encode(), asked)
        return await cursor.fetchall()


async def read_memory(
    connection: AsyncConnection[Any],
    environment: str,
    since: datetime,
    until: datetime,
    *,
    service: str | None = None,
) -> list[MemoryPoint]:
    """Memory and load of each instance, by service, instance and step: ten seconds of up to two hours, else minutes."""
    fine = until - since <= MEMORY_SAMPLES_UP_TO
    asked = {
        "environment": environment,
        "since": since,
        "until": until,
        "service": service,
        "step": STEP if fine else plan_step(until - since),
        "metrics": ["memory_usage", "memory_ratio", *LOADS],
    }
    async with connection.cursor(row_factory=dict_row, binary=True) as cursor:
        await cursor.execute((_MEMORY_FROM_SAMPLES if fine else _MEMORY_FROM_MINUTES).encode(), asked)
        rows = await cursor.fetchall()
    rated = {(row["service"], row["instance"]) for row in rows if row["rated"]}
    return [
        MemoryPoint(
            service=row["service"],
            system=row["system"],
            instance=row["instance"],
            at=row["at"],
            memory_mb=row["memory_mb"],
            memory_ratio=row["memory_ratio"],
            load=row["load"],
            began=bool(row["unrated"]) and (row["service"], row["instance"]) in rated,
        )
        for row in rows
        if row["memory_mb"] is not None
    ]


async def read_usage_days(
    connection: AsyncConnection[Any],
    environment: str,
    since: datetime,
    until: datetime,
    metrics: Sequence[str],
    *,
    service: str | None = None,
) -> list[UsageDay]:
    """What each instance used by day of UTC, from the minutes."""
    asked = {
        "environment": environment, "since": since, "until": until, "service": service, "metrics": list(metrics)
    }  # fmt: skip
    async with connection.cursor(row_factory=class_row(UsageDay), binary=True) as cursor:
        await cursor.execute(_DAYS.encode(), asked)
        return await cursor.fetchall()


async def read_calls(connection: AsyncConnection[Any], since: datetime, until: datetime) -> list[CallTimes]:
    """The calls between services that began within a time; of very many those of so many even slices of it."""
    found = await connection.execute(_COUNT_CALLS.encode(), {"since": since, "until": until})
    row = await found.fetchone()
    slices = plan_slices(since, until, int(row[0]) if row else 0)
    asked = {
        "since": since,
        "until": until,
        "starts": [start for start, _ in slices],
        "ends": [end for _, end in slices],
        "most": MAX_BUCKET,
    }
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_CALLS.encode(), asked)
        return [
            CallTimes(**{**one, "network": {int(bucket): int(n) for bucket, n in one["network"].items()}})
            for one in await cursor.fetchall()
        ]


async def read_served(
    connection: AsyncConnection[Any], environment: str, since: datetime, until: datetime
) -> list[Served]:
    """Requests that runs sent to each system, by steps of ten seconds."""
    return await _served(connection, _STEPS, {"environment": environment, "since": since, "until": until})


async def read_served_by_day(
    connection: AsyncConnection[Any], environment: str, since: datetime, until: datetime
) -> list[Served]:
    """The same by day of UTC, from what is kept longest."""
    return await _served(connection, _BY_DAY, {"environment": environment, "since": since, "until": until})


async def read_served_by_run(connection: AsyncConnection[Any], run: str) -> list[Served]:
    """All requests of one run, by system and hour, from what is kept longest."""
    return await _served(connection, _BY_RUN, {"run": run})


async def _served(connection: AsyncConnection[Any], query: str, asked: dict[str, Any]) -> list[Served]:
    async with connection.cursor(row_factory=class_row(Served)) as cursor:
        await cursor.execute(query.encode(), asked)
        return await cursor.fetchall()


async def list_sampled_services(
    connection: AsyncConnection[Any], environment: str, since: datetime, until: datetime
) -> list[str]:
    """Services of which there are samples."""
    found = await connection.execute(_SAMPLED, {"environment": environment, "since": since, "until": until})
    return [service for (service,) in await found.fetchall()]
