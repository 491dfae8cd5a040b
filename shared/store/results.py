"""Named queries of a run's results: counts, times, errors, resources, breaches and decisions. Reads only.

Counts and times come from the roll-ups, which say the same as the rows, whatever the size of the run; percentiles are
nearest-rank over their histograms (``percentile_disc``), means and maxima exact. ``failed`` is what the windows call
failed: an error other than a cancelled request, or an expectation not met.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from shared.contracts.timing import Kind
from shared.histogram import Histogram
from shared.store.figures import Connecting, InstanceReading, SeriesAfter, SeriesResult, Stored, Streaming, Times

Row = dict[str, Any]
SCRAPE_GAP_S = 3
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}

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
_ALL, _JUDGED, _GIVEN_UP = "true", "NOT ramp_up AND NOT cancelled", "NOT ramp_up AND cancelled"

_SENT = """
SELECT c.series_id, sum(c.sent)::bigint AS sent, (sum(c.in_flight) FILTER (WHERE NOT p.final))::bigint AS held
  FROM sent_counter c JOIN producer p USING (producer_id) WHERE p.run = %(run)s GROUP BY c.series_id
"""

_RESOURCES = """
SELECT service, system, metric, second, avg(told) AS mean, max(told) AS max, sum(told) AS sum
  FROM (SELECT r.service, r.system, r.instance, v.key AS metric,
               (floor(extract(epoch FROM r.at) / %(step)s) * %(step)s)::bigint AS second,
               avg((v.value #>> '{}')::float8) AS told
          FROM resource_sample r CROSS JOIN jsonb_each(r.values) AS v
         WHERE r.environment = %(environment)s AND r.at >= %(since)s AND r.at < %(until)s
           AND r.ready AND jsonb_typeof(v.value) = 'number'
         GROUP BY 1, 2, 3, 4, 5) AS told
 GROUP BY 1, 2, 3, 4 ORDER BY 2, 3, 4
"""

_INSTANCES = """
SELECT r.service, r.system, r.instance, v.key AS metric,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY (v.value #>> '{}')::float8) AS median,
       count(DISTINCT floor(extract(epoch FROM r.at)))::integer AS seconds
  FROM resource_sample r CROSS JOIN jsonb_each(r.values) AS v
 WHERE r.environment = %(environment)s AND r.at >= %(since)s AND r.at < %(until)s
   AND r.ready AND v.key = ANY(%(metrics)s) AND jsonb_typeof(v.value) = 'number'
 GROUP BY 1, 2, 3, 4 ORDER BY 1, 3, 4
"""

_CONNECTING = """
SELECT series_id, count(*) AS looked_at, count(*) FILTER (WHERE connect_us > 0) AS opened,
       coalesce(sum(connect_us), 0)::bigint AS connect_us,
       coalesce(sum(service_us) FILTER (WHERE connect_us > 0), 0)::bigint AS service_us
  FROM request_timing WHERE series_id = ANY(%(ids)s) AND at >= %(since)s AND at < %(until)s GROUP BY 1
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
            service_histogram=service[number].counts if number in service else {},
            response_histogram=response[number].counts if number in response else {},
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
    """By series: what was due after ramp-up, cancelled requests apart."""
    asked = {"ids": [row["series_id"] for row in await _rows(connection, _SERIES, {"run": run})]}
    response = await _histograms(connection, "response", _JUDGED, asked)
    given_up = await _histograms(connection, "response", _GIVEN_UP, asked)
    sums = {row["series_id"]: row for row in await _rows(connection, _AFTER, asked)}
    return {
        number: SeriesAfter(
            response[number].counts if number in response else {},
            sums[number]["sum_us"] if number in sums else 0,
            sums[number]["failed"] if number in sums else 0,
            given_up[number].counts if number in given_up else {},
        )
        for number in response.keys() | given_up.keys()
    }


async def _histograms(connection: AsyncConnection[Any], column: str, which: str, asked: Row) -> dict[int, Histogram]:
    found: dict[int, Histogram] = {}
    for row in await _rows(connection, _HISTOGRAM.format(column=column, which=which), asked):
        found.setdefault(row["series_id"], Histogram()).add(row["bucket"], row["n"])
    return found


async def read_resources(
    connection: AsyncConnection[Any], environment: str, since: datetime, until: datetime, step_s: int = 1
) -> list[Row]:
    """Per system, metric and step of seconds: ``mean``, ``max`` and ``sum`` over ready instances, in order of time."""
    asked = {"environment": environment, "since": since, "until": until, "step": step_s}
    return await _rows(connection, _RESOURCES, asked)


async def read_instances(
    connection: AsyncConnection[Any], environment: str, since: datetime, until: datetime, metrics: Iterable[str]
) -> list[InstanceReading]:
    """What each instance told of some metrics while it was ready."""
    asked = {"environment": environment, "since": since, "until": until, "metrics": list(metrics)}
    return [InstanceReading(**row) for row in await _rows(connection, _INSTANCES, asked)]


async def read_connecting(
    connection: AsyncConnection[Any], run: str, slices: Sequence[tuple[datetime, datetime]]
) -> list[Connecting]:
    """By system, of the requests that ended within ``slices``: how many had a connection opened for them.

    In a transaction: nothing has told the planner yet how rows that are new lie, and it would look at all of them.
    """
    listed = await _rows(connection, _SERIES, {"run": run})
    systems = {row["series_id"]: row["system"] for row in listed if row["kind"] == Kind.REQUEST}
    sums: dict[str, Counter[str]] = {}
    await connection.execute("SET LOCAL enable_seqscan = off")
    for since, until in slices:
        for row in await _rows(connection, _CONNECTING, {"ids": list(systems), "since": since, "until": until}):
            sums.setdefault(systems[row.pop("series_id")], Counter()).update(row)
    await connection.execute("SET LOCAL enable_seqscan = on")
    return [
        Connecting(
            system,
            told["looked_at"],
            told["opened"],
            told["connect_us"] / max(1, told["opened"]) / 1e3,
            told["service_us"] / max(1, told["opened"]) / 1e3,
        )
        for system, told in sorted(sums.items())
    ]


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
