"""Named query of error budgets: how many requests of a run ended in each step of time, and how many were bad.

Steps are of ten seconds, and of an hour where they lie further back than ``FINE``. What a late commit brings is there
as soon as it is committed.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection

from shared.contracts.timing import Kind

FINE = timedelta(hours=23)
"""Ten-second roll-ups are kept a day at least."""

_STEPS = """
WITH chosen AS (
    SELECT series_id FROM series
     WHERE run = %(run)s AND system = %(system)s AND kind = %(kind)s
       AND (%(scenarios)s::text[] = '{{}}' OR scenario = ANY(%(scenarios)s))
       AND (%(actions)s::text[] = '{{}}' OR action = ANY(%(actions)s))
), told AS (
    SELECT at, n, failed, response FROM timing_hour
     WHERE series_id IN (SELECT series_id FROM chosen) AND at >= %(since)s AND at < %(edge)s
     UNION ALL
    SELECT at, n, failed, response FROM timing_window
     WHERE series_id IN (SELECT series_id FROM chosen) AND at >= greatest(%(since)s, %(edge)s) AND at < %(until)s
)
SELECT extract(epoch FROM at)::bigint, sum(n)::bigint, sum({bad})::bigint FROM told GROUP BY at ORDER BY at
"""
_FAILED = "failed"
_SLOW = """(SELECT coalesce(sum(histogram_count(element)), 0) FROM unnest(response) AS element
             WHERE histogram_bucket(element) > %(bucket)s)"""


@dataclass(frozen=True, slots=True)
class BudgetOf:
    """Whose budget. ``slower_than``: bad is what took longer than this bucket of the histogram; None: what failed.

    Empty ``scenarios`` or ``actions`` mean all of them.
    """

    run: str
    system: str
    kind: Kind
    scenarios: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    slower_than: int | None = None


async def read_spending(
    connection: AsyncConnection[Any], budget: BudgetOf, since: datetime, until: datetime
) -> list[tuple[int, int, int]]:
    """(begin of the step in seconds since the Unix epoch, requests, bad ones), ascending; steps without any are absent.

    Both moments lie at the begin of a step; a ``since`` further back than ``FINE`` is taken at its hour.
    """
    edge = (until - FINE).replace(minute=0, second=0, microsecond=0)
    if since < edge:
        since = since.replace(minute=0, second=0, microsecond=0)
    query = _STEPS.format(bad=_FAILED if budget.slower_than is None else _SLOW)
    found = await connection.execute(
        query.encode(),
        {
            "run": budget.run,
            "system": budget.system,
            "kind": int(budget.kind),
            "scenarios": list(budget.scenarios),
            "actions": list(budget.actions),
            "bucket": budget.slower_than,
            "since": since,
            "edge": edge,
            "until": until,
        },
    )
    return [(int(at), int(count), int(bad)) for at, count, bad in await found.fetchall()]
