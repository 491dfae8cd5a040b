"""Named queries of canary runs: which there were, what each action did in spans of whole hours. Reads only.

Spans are read from ``timing_hour``, which is kept longest, all at once: a month of hours or of days is one query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row

from shared.contracts.timing import ErrorKind, Kind
from shared.contracts.window import Exemplar
from shared.store.figures import SpanTotals

_BUCKET_SHIFT = 40
_COUNT_MASK = (1 << _BUCKET_SHIFT) - 1

_SPANS = f"""
SELECT s.run, s.system, s.scenario, s.action, s.kind, a.start, sum(t.n)::bigint AS stored,
       coalesce(sum(t.n) FILTER (WHERE t.cancelled), 0)::bigint AS cancelled,
       coalesce(sum(t.n) FILTER (WHERE NOT t.ramp_up AND NOT t.cancelled), 0)::bigint AS count,
       coalesce(sum(t.failed) FILTER (WHERE NOT t.ramp_up AND NOT t.cancelled), 0)::bigint AS failed,
       coalesce(sum(t.response_sum_us) FILTER (WHERE NOT t.ramp_up AND NOT t.cancelled), 0)::bigint AS sum_us,
       coalesce(max(t.response_max_us) FILTER (WHERE NOT t.ramp_up AND NOT t.cancelled), 0)::bigint AS max_us,
       histogram_sum(t.response) FILTER (WHERE NOT t.ramp_up AND NOT t.cancelled) AS response,
       histogram_sum(t.errors) FILTER (WHERE NOT t.ramp_up AND NOT t.cancelled) AS errors
  FROM unnest(%(runs)s::text[], %(starts)s::timestamptz[], %(stops)s::timestamptz[]) AS a (run, start, stop)
  JOIN series s ON s.run = a.run AND s.kind <> {Kind.GROUP:d}
  CROSS JOIN LATERAL (
       SELECT * FROM timing_hour WHERE series_id = s.series_id AND at >= a.start AND at < a.stop
       OFFSET 0  -- each span by its own look at the index
  ) AS t
 GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 6, 5, 2, 3, 4
"""  # noqa: S608 - built from this module's own constants


@dataclass(frozen=True, slots=True)
class CanaryRow:
    """A run with canary load: the JSON of its ``RunDesired``. ``said_at``: when its last state was said."""

    run: str
    desired: dict[str, Any]
    started_at: datetime
    ended_at: datetime | None
    said_at: datetime | None


async def list_canaries(connection: AsyncConnection[Any], environment: str, since: datetime) -> list[CanaryRow]:
    """The canary runs of an environment that had begun and had not ended before a moment, the oldest first."""
    async with connection.cursor(row_factory=class_row(CanaryRow)) as cursor:
        await cursor.execute(
            """
            SELECT run, desired, started_at, ended_at, (state ->> 'at')::timestamptz AS said_at FROM run
            WHERE environment = %s AND started_at IS NOT NULL AND (ended_at IS NULL OR ended_at >= %s)
                AND desired @? '$.loads[*] ? (@.profile == "canary")'
            ORDER BY started_at, run
            """,
            (environment, since),
        )
        return await cursor.fetchall()


async def read_spans(
    connection: AsyncConnection[Any], spans: Sequence[tuple[str, datetime, datetime]]
) -> list[SpanTotals]:
    """What each action and workflow did in these spans, each of a run from one moment to another (whole hours)."""
    asked = {
        "runs": [run for run, _, _ in spans],
        "starts": [start for _, start, _ in spans],
        "stops": [stop for _, _, stop in spans],
    }
    async with connection.cursor(row_factory=dict_row, binary=True) as cursor:
        await cursor.execute(_SPANS.encode(), asked)
        return [_totals(row) for row in await cursor.fetchall()]


def _totals(row: dict[str, Any]) -> SpanTotals:
    response, errors = _unpacked(row.pop("response")), _unpacked(row.pop("errors"))
    told = {"kind": Kind(row["kind"]), "response": response, "refused": errors.get(ErrorKind.REFUSED, 0)}
    return SpanTotals(**{**row, **told})


def _unpacked(elements: Sequence[int] | None) -> dict[int, int]:
    return {element >> _BUCKET_SHIFT: element & _COUNT_MASK for element in elements or ()}


async def read_reach(connection: AsyncConnection[Any], run: str) -> datetime | None:
    """How far the frames of a run that were committed last reach; None where there are none."""
    found = await connection.execute("SELECT max(last_emitted) FROM producer WHERE run = %s", (run,))
    row = await found.fetchone()
    return row[0] if row else None


async def read_slowest(
    connection: AsyncConnection[Any],
    run: str,
    since: datetime,
    until: datetime,
    *,
    kind: Kind | None = Kind.REQUEST,
    system: str = "",
    scenario: str = "",
    action: str = "",
    limit: int = 3,
) -> list[tuple[str, Exemplar]]:
    """The slowest recorded requests (or workflows) that ended within a time, each with its action, slowest first.

    An empty name lets every one through, and so does no kind.
    """
    found = await connection.execute(
        """
        SELECT s.action, replace(t.trace_id::text, '-', ''), t.response_us
        FROM series s CROSS JOIN LATERAL (
            SELECT trace_id, response_us FROM request_trace
            WHERE series_id = s.series_id AND at >= %(since)s AND at < %(until)s
            ORDER BY response_us DESC LIMIT %(limit)s
        ) AS t
        WHERE s.run = %(run)s AND s.kind = coalesce(%(kind)s, s.kind) AND %(system)s::text IN ('', s.system)
            AND %(scenario)s::text IN ('', s.scenario) AND %(action)s::text IN ('', s.action)
        ORDER BY t.response_us DESC, t.trace_id LIMIT %(limit)s
        """,
        {
            "run": run,
            "since": since,
            "until": until,
            "kind": None if kind is None else int(kind),
            "system": system,
            "scenario": scenario,
            "action": action,
            "limit": limit,
        },
    )
    return [
        (its_action, Exemplar(trace_id=trace_id, response_us=response_us, recorded=True))
        for its_action, trace_id, response_us in await found.fetchall()
    ]


async def count_stored(connection: AsyncConnection[Any], run: str, since: datetime, until: datetime) -> int:
    """How many requests and workflows of some whole hours of a run are stored."""
    found = await connection.execute(
        """
        SELECT coalesce(sum(t.n), 0)::bigint FROM series s CROSS JOIN LATERAL (
            SELECT n FROM timing_hour WHERE series_id = s.series_id AND at >= %s AND at < %s OFFSET 0
        ) AS t WHERE s.run = %s AND s.kind <> %s
        """,
        (since, until, run, int(Kind.GROUP)),
    )
    row = await found.fetchone()
    return int(row[0]) if row else 0


async def read_day_breaches(
    connection: AsyncConnection[Any], run: str, since: datetime, until: datetime, limit: int = 200
) -> list[dict[str, Any]]:
    """The latest event of the episodes of a run that were open within a time, as plain ``Breach``, the newest first.

    Episodes that opened longer than an event is kept on the bus before are not looked for.
    """
    found = await connection.execute(
        """
        SELECT event -> 'data' FROM (
            SELECT DISTINCT ON (breach) breach, event, at, status FROM breach_revision
            WHERE run = %(run)s AND at >= %(since)s - interval '30 days' AND at < %(until)s + interval '1 day'
            ORDER BY breach, revision DESC
        ) AS latest
        WHERE (event -> 'data' ->> 'opened_at')::timestamptz < %(until)s
            AND (event -> 'data' ->> 'resolved_at' IS NULL
                 OR (event -> 'data' ->> 'resolved_at')::timestamptz >= %(since)s)
        ORDER BY at DESC, breach LIMIT %(limit)s
        """,
        {"run": run, "since": since, "until": until, "limit": limit},
    )
    return [row[0] for row in await found.fetchall()]
