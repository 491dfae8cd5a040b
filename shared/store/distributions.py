"""Named queries of how the times of a run are distributed: per action, over all, and of two runs side by side.

Reads only. Histograms are the store's own, bucket for bucket; what is drawn from them is left to
``shared.histogram``, so that a percentile is the same wherever it is asked for.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from shared.contracts.timing import Kind
from shared.histogram import Histogram

ActionKey = tuple[str, str, str, Kind]
"""system, scenario, action, kind: what is the same action in two runs."""


@dataclass(frozen=True, slots=True)
class Times:
    """Durations in µs: their exact sum and maximum, and how many of them each bucket holds."""

    sum_us: int = 0
    max_us: int = 0
    histogram: Histogram = field(default_factory=Histogram)

    @property
    def mean_ms(self) -> float | None:
        total = self.histogram.total
        return self.sum_us / total / 1e3 if total else None

    def percentile_ms(self, q: float) -> float | None:
        """Nearest rank, ``0 < q <= 1``; None of nothing."""
        value = self.histogram.percentile_us(q)
        return None if value is None else value / 1e3


@dataclass(frozen=True, slots=True)
class Distribution:
    """Events of one action, or of several: counts and both times. ``count`` holds the ``failed`` too."""

    count: int
    failed: int
    service: Times
    response: Times

    @property
    def error_rate(self) -> float | None:
        return self.failed / self.count if self.count else None


@dataclass(frozen=True, slots=True)
class Pair:
    """One action in two runs; None where a run has none of it."""

    base: Distribution | None
    other: Distribution | None


_WHICH = (
    "series_id IN (SELECT series_id FROM series WHERE run = %(run)s) AND NOT (%(judged)s AND (ramp_up OR cancelled))"
)

_TOTALS = f"""
SELECT series_id, system, scenario, action, kind, sum(n)::bigint AS count, sum(failed)::bigint AS failed,
       sum(service_sum_us)::bigint AS service_sum_us, max(service_max_us) AS service_max_us,
       sum(response_sum_us)::bigint AS response_sum_us, max(response_max_us) AS response_max_us
  FROM timing_hour JOIN series USING (series_id) WHERE {_WHICH} GROUP BY 1, 2, 3, 4, 5 ORDER BY kind, 2, 3, 4
"""  # noqa: S608 - built from this module's own constants

_BUCKETS = f"""
SELECT series_id, of, histogram_bucket(element) AS bucket, sum(histogram_count(element))::bigint AS n
  FROM timing_hour CROSS JOIN LATERAL (VALUES ('service', service), ('response', response)) AS v (of, histogram)
       CROSS JOIN LATERAL unnest(histogram) AS element
 WHERE {_WHICH} GROUP BY 1, 2, 3
"""  # noqa: S608 - built from this module's own constants


async def read_distributions(
    connection: AsyncConnection[Any], run: str, *, judged: bool = False
) -> dict[ActionKey, Distribution]:
    """Every action, workflow and group of a run. ``judged``: without ramp-up and cancelled requests."""
    asked = {"run": run, "judged": judged}
    found: dict[int, dict[str, Histogram]] = {}
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_BUCKETS.encode(), asked)
        async for row in cursor:
            histograms = found.setdefault(row["series_id"], {"service": Histogram(), "response": Histogram()})
            histograms[row["of"]].add(row["bucket"], row["n"])
        await cursor.execute(_TOTALS.encode(), asked)
        rows = await cursor.fetchall()
    return {
        (row["system"], row["scenario"], row["action"], Kind(row["kind"])): Distribution(
            row["count"],
            row["failed"],
            *(
                Times(row[f"{of}_sum_us"], row[f"{of}_max_us"], found[row["series_id"]][of])
                for of in ("service", "response")
            ),
        )
        for row in rows
    }


def over_all(distributions: Iterable[Distribution]) -> Distribution:
    """Several actions as one, e.g. all requests of a run; of none, a distribution of nothing."""
    listed = list(distributions)
    return Distribution(
        sum(item.count for item in listed),
        sum(item.failed for item in listed),
        _together(item.service for item in listed),
        _together(item.response for item in listed),
    )


def _together(times: Iterable[Times]) -> Times:
    listed, histogram = list(times), Histogram()
    for item in listed:
        histogram.merge(item.histogram)
    return Times(sum(item.sum_us for item in listed), max((item.max_us for item in listed), default=0), histogram)


async def compare_runs(
    connection: AsyncConnection[Any], base: str, other: str, *, judged: bool = True
) -> dict[ActionKey, Pair]:
    """Every action that either run has, with the distributions of both."""
    first = await read_distributions(connection, base, judged=judged)
    second = await read_distributions(connection, other, judged=judged)
    return {key: Pair(first.get(key), second.get(key)) for key in sorted(first.keys() | second.keys())}
