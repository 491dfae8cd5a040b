"""Counts the spans that benchmarks name, by second of their end, until they are told. Pure.

A span that is exported again is known by its ids and counts once. What the store has no room for counts all the same:
it is given up by how quick it was, and would spoil the sample.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from services.collector.span_queue import ERROR
from shared.contracts.benchmarks import Benchmarks
from shared.contracts.span_window import SpanCell, SpanWindows
from shared.contracts.window import Exemplar
from shared.histogram import bucket_of
from shared.store.spans import SpanRow

MOST_REMEMBERED = 100_000
AHEAD_S = 5.0
"""A span that ends so much later than now is of a clock that is wrong; counted, it would end the time of all others."""
WORST = 3


class Named(NamedTuple):
    """Spans of a name from a service."""

    service: str
    span: str


@dataclass(slots=True)
class _Cell:
    count: int = 0
    failed: int = 0
    sum_us: int = 0
    times: dict[int, int] = field(default_factory=dict)
    worst: list[Exemplar] = field(default_factory=list)

    def add(self, row: SpanRow) -> None:
        self.count += 1
        self.failed += row.status == ERROR
        self.sum_us += row.duration_us
        bucket = bucket_of(row.duration_us)
        self.times[bucket] = self.times.get(bucket, 0) + 1
        self.worst.append(Exemplar(trace_id=row.trace_id.hex, response_us=row.duration_us, recorded=True))
        self.worst = sorted(self.worst, key=lambda one: (-one.response_us, one.trace_id))[:WORST]


def named_in(benchmarks: Benchmarks) -> dict[Named, str]:
    """The spans that benchmarks are measured by, and whose system they belong to."""
    return {Named(service, span): system for (system, span), service in benchmarks.named_spans.items()}


class SpanTally:
    """``wanted``: which spans, and their systems."""

    def __init__(self, wanted: Mapping[Named, str]) -> None:
        self._wanted = wanted
        self._cells: dict[tuple[Named, int], _Cell] = {}
        self._seen: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()

    def add(self, rows: Iterable[SpanRow], now_s: float) -> None:
        """Count those that are wanted, were not counted before and have ended by ``now_s`` (s since the Unix epoch)."""
        for row in rows:
            named = Named(row.service, row.name)
            if named not in self._wanted:
                continue
            second = int(row.at.timestamp() + row.duration_us / 1e6)
            if second > now_s + AHEAD_S:
                continue
            identity = (row.trace_id.bytes, row.span_id)
            if identity in self._seen:
                continue
            self._seen[identity] = None
            if len(self._seen) > MOST_REMEMBERED:
                self._seen.popitem(last=False)
            self._cells.setdefault((named, second), _Cell()).add(row)

    def take(self, environment: str, collector: str, next_seq: int) -> list[SpanWindows]:
        """What was counted since the last time, a message a service."""
        cells, self._cells = self._cells, {}
        by_service: dict[tuple[str, str], list[SpanCell]] = {}
        for (named, second), cell in sorted(cells.items()):
            told = SpanCell(
                span=named.span,
                second=second,
                count=cell.count,
                failed=cell.failed,
                times=cell.times,
                sum_us=cell.sum_us,
                worst=tuple(cell.worst),
            )
            by_service.setdefault((self._wanted[named], named.service), []).append(told)
        return [
            SpanWindows(
                environment=environment,
                system=system,
                service=service,
                collector=collector,
                seq=next_seq + number,
                cells=tuple(told),
            )
            for number, ((system, service), told) in enumerate(by_service.items())
        ]
