"""Where each table of an export comes from: the store's named queries, as Arrow record batches in bounded memory."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
import pyarrow as pa

from services.console.exporting.tables import FIGURES, What, schema_of
from services.console.exporting.timings import TimingTable
from services.console.reading import SETTLING
from shared.contracts.timing import Kind
from shared.store import exports
from shared.store.asking import CONNECT_TIMEOUT_S, Connection
from shared.store.breaches import list_breaches
from shared.store.runs import RunRow
from shared.store.scaling import list_scaling
from shared.store.series import HOUR, Series, StepRow, find_grain, list_hours, list_series, read_steps

T = TypeVar("T")
Batches = AsyncGenerator[pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class Source:
    """A run in the store. ``dsn``: for a connection of its own, on which timings are copied."""

    connection: Connection
    dsn: str
    run: RunRow

    def batches(self, what: What) -> Batches:
        """What a table holds of the run, in the schema of ``tables``."""
        read: dict[What, Callable[[], Batches]] = {
            What.REQUESTS: lambda: self._timings(Kind.REQUEST),
            What.WORKFLOWS: lambda: self._timings(Kind.WORKFLOW, Kind.GROUP),
            What.WINDOWS: self._windows,
            What.BREACHES: self._breaches,
            What.SCALING: self._scaling,
            What.RESOURCES: self._resources,
            What.SPANS: self._spans,
        }
        return read[what]()

    async def expected(self, what: What) -> int | None:
        """How many rows there were once, though they may be past their age; None where that is not known."""
        kinds = {What.REQUESTS: (Kind.REQUEST,), What.WORKFLOWS: (Kind.WORKFLOW, Kind.GROUP)}.get(what)
        if kinds is None:
            return None
        return sum(hour.n for hour in await list_hours(self.connection, _ids(await self._series(*kinds))))

    async def _series(self, *kinds: Kind) -> list[Series]:
        return [item for item in await list_series(self.connection, self.run.run) if not kinds or item.kind in kinds]

    async def _slices(self, *kinds: Kind) -> list[exports.Slice]:
        return exports.cut(await list_hours(self.connection, _ids(await self._series(*kinds))))

    async def _timings(self, *kinds: Kind) -> Batches:
        series, slices = await self._series(*kinds), await self._slices(*kinds)

        def read() -> Generator[pa.RecordBatch]:
            with psycopg.connect(self.dsn, connect_timeout=CONNECT_TIMEOUT_S, autocommit=True) as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                for part in slices:
                    # Names and rows of one moment: a worker may join a run that goes on.
                    with connection.transaction():
                        table = TimingTable(self.run.run, series, exports.read_workers(connection, self.run.run))
                        for rows in exports.copy_timings(connection, _ids(series), part):
                            yield table.batch(rows)

        async with aclosing(ahead(read())) as batches:
            async for batch in batches:
                yield batch

    async def _windows(self) -> Batches:
        series = _ids(await self._series())
        step = await find_grain(self.connection, series)
        seconds = int(step.total_seconds())
        for hour in await list_hours(self.connection, series):
            steps = await read_steps(self.connection, series, hour.at, hour.at + HOUR, step)
            yield _batch(What.WINDOWS, (_window_row(row, self.run.run, seconds) for row in steps))

    async def _breaches(self) -> Batches:
        rows = await list_breaches(self.connection, self.run.environment, run=self.run.run, limit=None)
        yield _batch(What.BREACHES, (_breach_row(row.event["data"]) for row in reversed(rows)))

    async def _scaling(self) -> Batches:
        since, until = self.run.requested_at, self.run.ended_at and self.run.ended_at + SETTLING
        rows = await list_scaling(self.connection, self.run.environment, since=since, until=until, limit=None)
        yield _batch(What.SCALING, (_scaling_row(row.record) for row in reversed(rows)))

    async def _resources(self) -> Batches:
        async for rows in exports.stream_resources(self.connection, self.run.environment, self._while_it_ran()):
            yield _batch(What.RESOURCES, rows)

    async def _spans(self) -> Batches:
        series = _ids(await self._series())
        hours = await list_hours(self.connection, series)
        # What began a request that ended within an hour may have begun in the one before.
        slices = exports.hourly(hours[0].at - HOUR, hours[-1].at + HOUR) if hours else []
        async for rows in exports.stream_spans(self.connection, series, slices):
            yield _batch(What.SPANS, map(_span_row, rows))

    def _while_it_ran(self) -> list[exports.Slice]:
        ended = self.run.ended_at or datetime.now(UTC)
        return exports.hourly(self.run.started_at or self.run.requested_at, ended + SETTLING)


async def ahead(items: Generator[T]) -> AsyncGenerator[T]:
    """Each item, while a thread already makes the next one; ``items`` is closed at the end, whatever ends it."""
    loop = asyncio.get_running_loop()
    coming = loop.run_in_executor(None, next, items, None)
    try:
        while (item := await asyncio.shield(coming)) is not None:
            coming = loop.run_in_executor(None, next, items, None)
            yield item
    finally:
        # Nothing can be closed while the thread is at it.
        await asyncio.gather(coming, return_exceptions=True)
        items.close()


def _ids(series: Iterable[Series]) -> list[int]:
    return [item.series_id for item in series]


def _batch(what: What, rows: Iterable[Mapping[str, Any]]) -> pa.RecordBatch:
    schema = schema_of(what)
    return pa.RecordBatch.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema)


def _window_row(row: StepRow, run: str, seconds: int) -> dict[str, Any]:
    told = asdict(row)
    times = {
        f"{of}_time_{figure}_ms": told[f"{of}_{figure}_ms"] for of in ("service", "response") for figure in FIGURES
    }
    received, sent = row.bytes_in, row.bytes_out
    kind = Kind(row.kind).name.lower()
    return told | times | {"run": run, "seconds": seconds, "kind": kind, "bytes_received": received, "bytes_sent": sent}


def _breach_row(breach: dict[str, Any]) -> dict[str, Any]:
    moments = {name: breach.get(name) and datetime.fromisoformat(breach[name]) for name in ("opened_at", "resolved_at")}
    return breach | moments


def _scaling_row(record: dict[str, Any]) -> dict[str, Any]:
    return record | {
        "at": datetime.fromisoformat(record["at"]),
        "current_replicas": record.get("current"),
        "target_replicas": record.get("target"),
        "ready_replicas": record.get("ready"),
        "reason": record.get("reason") or record.get("error"),
        "runs": ",".join(record.get("runs") or ()),
        "record": json.dumps(record),
    }


def _span_row(row: dict[str, Any]) -> dict[str, Any]:
    parent = row["parent_span_id"]
    return row | {
        "started_at": row["at"],
        "trace_id": row["trace_id"].hex,
        "span_id": row["span_id"].hex(),
        "parent_span_id": parent.hex() if parent else None,
    }
