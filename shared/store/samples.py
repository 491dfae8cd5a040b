"""SQL that keeps resource samples: as they came, and added up by instance, metric and minute. Reads: ``usage.py``."""

from collections.abc import Iterable
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from shared.contracts.resource import ResourceSample

_SAMPLE = """
INSERT INTO resource_sample (at, environment, service, system, instance, ready, values)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""

# In the order of the key, so that two collectors never wait for each other.
_MINUTES = """
INSERT INTO resource_minute AS kept
SELECT environment, service, max(system), instance, metric, date_trunc('minute', at), count(*)::integer, sum(value),
       max(value), (array_agg(at ORDER BY value DESC, at))[1], min(value)
  FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::float8[])
       AS told (environment, service, system, instance, at, metric, value)
 GROUP BY environment, service, instance, metric, date_trunc('minute', at) ORDER BY 1, 2, 4, 5, 6
ON CONFLICT (environment, service, instance, metric, at) DO UPDATE
   SET n = kept.n + excluded.n, total = kept.total + excluded.total, most = greatest(kept.most, excluded.most),
       most_at = CASE WHEN excluded.most > kept.most THEN excluded.most_at ELSE kept.most_at END,
       least = least(kept.least, excluded.least)
"""


async def save_samples(connection: AsyncConnection[Any], samples: Iterable[ResourceSample]) -> None:
    """Append resource samples. In a transaction, so that minutes hold what is there."""
    several = list(samples)
    if not several:
        return
    async with connection.cursor() as cursor:
        await cursor.executemany(
            _SAMPLE,
            [
                (one.at, one.environment, one.service, one.system, one.instance, one.ready, Jsonb(one.values))
                for one in several
            ],
        )
        told = [
            (one.environment, one.service, one.system, one.instance, one.at, metric, value)
            for one in several
            for metric, value in one.values.items()
        ]
        if told:
            await cursor.execute(_MINUTES, [list(column) for column in zip(*told, strict=True)])
