"""Named queries of a run's results: counts, times, errors, resources, breaches and decisions. Reads only.

Counts and times come from the roll-ups, which say the same as the rows, whatever the size of the run; percentiles are
nearest-rank over their histograms (``percentile_disc``), means and maxima exact. ``failed`` is what the windows call
failed: an error other than a cancelled request, or an expectation not met.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from shared.contracts.timing import ErrorKind, EventFlag, Kind
from shared.histogram import Histogram
from shared.store.figures import (
    Connecting,
    Edges,
    InstanceReading,
    SeriesAfter,
    SeriesResult,
    Stored,
    Streaming,
    Times,
)
from shared.store.packed import CHUNK, PackedSum

Row = dict[str, Any]
SCRAPE_GAP_S = 3
EARLY = timedelta(minutes=1)
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}

_SERIES = "SELECT series_id, system, scenario, action, kind FROM series WHERE run = %(run)s ORDER BY 3, 2, 4, 5"

_SUMMED = ("n", "failed", "service_sum_us", "response_sum_us", "streams", "tokens", "stream_us")
_MOST = ("service_max_us", "response_max_us")
_HISTOGRAMS = ("errors", "service", "response", "ttft", "gap")
_TOTALS = f"""
SELECT series_id, ramp_up, cancelled, {", ".join(_SUMMED + _MOST + _HISTOGRAMS)}
  FROM timing_hour WHERE series_id = ANY(%(ids)s)
"""  # noqa: S608 - built from this module's own constants

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

_EDGES = f"""
SELECT series_id, count(*) FILTER (WHERE at < %(ended)s) AS early,
       count(*) FILTER (WHERE at >= %(ended)s AND due < %(ended)s) AS late,
       count(*) FILTER (WHERE due >= %(ended)s) AS after
  FROM request_timing CROSS JOIN LATERAL (
       SELECT at - (dispatch_us + service_us) * interval '1 microsecond' AS due
  ) AS told WHERE series_id = ANY(%(ids)s) AND error NOT IN ({ErrorKind.CANCELLED:d}, {ErrorKind.REFUSED:d})
   AND ((at >= %(judged_from)s AND at < %(early_until)s AND flags & {EventFlag.RAMP_UP:d} <> 0)
        OR (at >= %(ended)s AND at < %(latest)s AND flags & {EventFlag.RAMP_UP:d} = 0))
 GROUP BY 1
"""  # noqa: S608 - built from this module's own constants

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


class Results(NamedTuple):
    """Every series of a run with its counts and times; by series, what was due after ramp-up, cancelled requests
    apart."""

    series: list[SeriesResult]
    after: dict[int, SeriesAfter]


async def read_results(connection: AsyncConnection[Any], run: str) -> Results:
    """What a run came to, from one pass over its roll-ups."""
    listed = await _rows(connection, _SERIES, {"run": run})
    parts = await _read_totals(connection, [row["series_id"] for row in listed])
    sent = {row["series_id"]: row for row in await _rows(connection, _SENT, {"run": run})}
    results, after = [], {}
    for row in listed:
        number = row["series_id"]
        of_series = parts.get(number, {})
        results.append(_result(row, sent.get(number, {}), of_series))
        judged, given_up = of_series.get((False, False)), of_series.get((False, True))
        if judged or given_up:
            after[number] = SeriesAfter(
                judged.histogram("response").counts if judged else {},
                judged.sums["response_sum_us"] if judged else 0,
                judged.sums["failed"] if judged else 0,
                given_up.histogram("response").counts if given_up else {},
                judged.histogram("errors").counts.get(ErrorKind.REFUSED, 0) if judged else 0,
            )
    return Results(results, after)


class _Totals:
    """Rows of the roll-ups, added up."""

    def __init__(self) -> None:
        self.sums = dict.fromkeys(_SUMMED, 0)
        self.most = dict.fromkeys(_MOST, 0)
        self._packed: dict[str, PackedSum] = {}

    def add(self, row: Row) -> None:
        for name in _SUMMED:
            self.sums[name] += row[name]
        for name in _MOST:
            self.most[name] = max(self.most[name], row[name])
        for name in _HISTOGRAMS:
            if row[name]:
                self._packed.setdefault(name, PackedSum()).add(row[name])

    def merge(self, other: "_Totals") -> None:
        for name in _SUMMED:
            self.sums[name] += other.sums[name]
        for name in _MOST:
            self.most[name] = max(self.most[name], other.most[name])
        for name, packed in other._packed.items():
            self._packed.setdefault(name, PackedSum()).merge(packed)

    def histogram(self, name: str) -> Histogram:
        return self._packed[name].histogram() if name in self._packed else Histogram()

    def times(self, of: str, histogram: Histogram) -> Times:
        if not histogram.counts:
            return Times()
        mean_ms = self.sums[f"{of}_sum_us"] / self.sums["n"] / 1e3
        return Times(mean_ms, self.most[f"{of}_max_us"] / 1e3, _percentiles_ms(histogram))

    def streaming(self) -> Streaming | None:
        if not self.sums["streams"]:
            return None
        later, stream_s = self.sums["tokens"] - self.sums["streams"], self.sums["stream_us"] / 1e6
        return Streaming(
            answers=self.sums["streams"],
            tokens=self.sums["tokens"],
            tokens_per_s=later / stream_s if later and stream_s else None,
            first_token=Times(percentiles=_percentiles_ms(self.histogram("ttft"))),
            longest_gap=Times(percentiles=_percentiles_ms(self.histogram("gap"))),
        )


async def _read_totals(connection: AsyncConnection[Any], ids: list[int]) -> dict[int, dict[tuple[bool, bool], _Totals]]:
    """By series and (ramp_up, cancelled)."""
    parts: dict[int, dict[tuple[bool, bool], _Totals]] = {}
    async with connection.cursor(row_factory=dict_row, binary=True) as cursor:
        async for row in cursor.stream(_TOTALS.encode(), {"ids": ids}, size=CHUNK):
            of_series = parts.setdefault(row["series_id"], {})
            of_series.setdefault((row["ramp_up"], row["cancelled"]), _Totals()).add(row)
    return parts


def _result(row: Row, sent: Row, parts: dict[tuple[bool, bool], _Totals]) -> SeriesResult:
    whole = _Totals()
    for part in parts.values():
        whole.merge(part)
    service, response = whole.histogram("service"), whole.histogram("response")
    return SeriesResult(
        series_id=row["series_id"],
        system=row["system"],
        scenario=row["scenario"],
        action=row["action"],
        kind=Kind(row["kind"]),
        sent=sent.get("sent") or 0,
        held=sent.get("held") or 0,
        stored=whole.sums["n"],
        failed=whole.sums["failed"],
        cancelled=sum(part.sums["n"] for (_, cancelled), part in parts.items() if cancelled),
        errors=whole.histogram("errors").counts,
        service=whole.times("service", service),
        response=whole.times("response", response),
        streaming=whole.streaming(),
        service_histogram=service.counts,
        response_histogram=response.counts,
    )


def _percentiles_ms(histogram: Histogram) -> dict[str, float]:
    found = {name: histogram.percentile_us(q) for name, q in PERCENTILES.items()}
    return {name: value / 1e3 for name, value in found.items() if value is not None}


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
    async with _rows_by_time(connection):
        for since, until in slices:
            for row in await _rows(connection, _CONNECTING, {"ids": list(systems), "since": since, "until": until}):
                sums.setdefault(systems[row.pop("series_id")], Counter()).update(row)
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


async def read_edges(
    connection: AsyncConnection[Any],
    run: str,
    judged_from: datetime,
    ended: datetime,
    latest: datetime,
    *,
    ramp_up: bool = True,
) -> dict[int, Edges]:
    """By series, the requests that were answered on the other side of an edge of ``judged_from`` to ``ended``.

    As for ``read_connecting``, in a transaction. What ramp-up left, where there was one, is looked for in the first
    ``EARLY`` only.
    """
    listed = await _rows(connection, _SERIES, {"run": run})
    asked = {
        "ids": [row["series_id"] for row in listed if row["kind"] == Kind.REQUEST],
        "judged_from": judged_from,
        "early_until": min(judged_from + EARLY, ended) if ramp_up else judged_from,
        "ended": ended,
        "latest": latest,
    }
    async with _rows_by_time(connection):
        found = await _rows(connection, _EDGES, asked)
    return {row["series_id"]: Edges(row["early"], row["late"], row["after"]) for row in found}


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


@asynccontextmanager
async def _rows_by_time(connection: AsyncConnection[Any]) -> AsyncIterator[None]:
    """Within a transaction: rows are looked for by their index of time, whatever the planner has been told of them."""
    await connection.execute("SET LOCAL enable_seqscan = off")
    yield
    await connection.execute("SET LOCAL enable_seqscan = on")


async def _rows(connection: AsyncConnection[Any], query: str, arguments: Row) -> list[Row]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), arguments)
        return await cursor.fetchall()
