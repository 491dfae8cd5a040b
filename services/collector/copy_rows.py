"""Decoded frames become one binary COPY stream of ``request_timing``, whole columns at a time, never row by row.

Owns the byte layout of PostgreSQL's binary COPY format (header, per row a field count, per field a length and a
big-endian value, trailer; https://www.postgresql.org/docs/current/sql-copy.html). Which columns there are, and in
which order, stands in ``shared.store.ingest``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.contracts.frame import Frame
from shared.histogram import buckets_of
from shared.store.ingest import TIMING_COLUMNS

POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01T00:00:00Z in µs since the Unix epoch: where timestamptz counts from."""

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NAMED_OTHERWISE = {"user_no": "user", "check_result": "check"}
_COMPUTED = frozenset({"at", "series_id", "producer_id", "service_bucket", "response_bucket"})


def _row_dtype() -> np.dtype[np.void]:
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in TIMING_COLUMNS:
        fields += [(f"{name} length", ">i4"), (name, kind)]
    return np.dtype(fields)


_ROW = _row_dtype()


def _template() -> np.void:
    row = np.zeros(1, _ROW)
    row["fields"] = len(TIMING_COLUMNS)
    for name, kind in TIMING_COLUMNS:
        row[f"{name} length"] = np.dtype(kind).itemsize
    template: np.void = row[0]
    return template


_TEMPLATE = _template()


@dataclass(frozen=True, slots=True)
class NamedFrame:
    """A frame with the store's ids of its producer and of each of its actions, in the order of its action table."""

    frame: Frame
    producer_id: int
    series_ids: Sequence[int]


def build_copy(frames: Sequence[NamedFrame]) -> bytes:
    """The whole COPY stream for the events of these frames, in their order."""
    counts = [len(named.frame.events) for named in frames]
    rows = np.empty(sum(counts), _ROW)
    rows[:] = _TEMPLATE
    if len(rows):
        events = np.concatenate([named.frame.events for named in frames])
        rows["at"] = np.concatenate([named.frame.done_wall_us for named in frames]) - POSTGRES_EPOCH_US
        rows["series_id"] = np.concatenate(
            [np.asarray(named.series_ids or (0,), np.int32)[named.frame.events["action"]] for named in frames]
        )
        rows["producer_id"] = np.repeat([named.producer_id for named in frames], counts)
        for column, _ in TIMING_COLUMNS:
            if column not in _COMPUTED:
                rows[column] = events[_NAMED_OTHERWISE.get(column, column)]
        service_us = events["service_us"].astype(np.int64)
        rows["service_bucket"] = buckets_of(service_us)
        rows["response_bucket"] = buckets_of(service_us + events["dispatch_us"])
    return b"".join((_HEADER, rows.tobytes(), _TRAILER))
