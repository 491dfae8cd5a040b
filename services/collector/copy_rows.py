"""A decoded frame becomes rows of a binary COPY into ``request_timing``, whole columns at a time, never row by row.

Owns the byte layout of PostgreSQL's binary COPY format (header, per row a field count, per field a length and a
big-endian value, trailer; https://www.postgresql.org/docs/current/sql-copy.html). Which columns there are, and in
which order, stands in ``shared.store.ingest``.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.collector.measures import Measures
from shared.contracts.frame import Frame
from shared.contracts.timing import EventFlag
from shared.store.ingest import TIMING_COLUMNS

POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01T00:00:00Z in µs since the Unix epoch: where timestamptz counts from."""

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
_NULL = -1
_RECORDED = int(EventFlag.TRACE_RECORDED)  # the enumeration's own operators cost more than the column's
_FIXED, (_TRACE, _TRACE_KIND) = TIMING_COLUMNS[:-1], TIMING_COLUMNS[-1]
_COMPUTED = frozenset({"at", "series_id", "producer_id", "service_bucket", "response_bucket"})
_NAMED_OTHERWISE = {"user_no": "user", "check_result": "check"}
_COPIED = tuple((name, _NAMED_OTHERWISE.get(name, name)) for name, _ in _FIXED if name not in _COMPUTED)


def _row_dtype() -> np.dtype[np.void]:
    """A row without its trace id, which is the last field and NULL; others are spliced in."""
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in _FIXED:
        fields += [(f"{name} length", ">i4"), (name, kind)]
    return np.dtype([*fields, (f"{_TRACE} length", ">i4")])


_ROW = _row_dtype()
_TRACE_BYTES = np.dtype(_TRACE_KIND).itemsize
_LENGTH_BYTES = 4
_TRACE_LENGTH = _TRACE_BYTES.to_bytes(_LENGTH_BYTES, "big")


def _blank(count: int) -> NDArray[np.void]:
    """Rows whose field counts and lengths are filled in."""
    rows = np.zeros(count, _ROW)
    rows["fields"] = len(TIMING_COLUMNS)
    for name, _ in _FIXED:
        rows[f"{name} length"] = _ROW[name].itemsize
    rows[f"{_TRACE} length"] = _NULL
    return rows


_SHEET = _blank(2_048)
"""Written over for each frame of up to so many events: making lengths anew costs as much as the values."""


def build_rows(frame: Frame, measures: Measures, producer_id: int, series_ids: Sequence[int]) -> bytes:
    """The rows of a frame's events in their order, between ``HEADER`` and ``TRAILER`` in a COPY stream.

    ``series_ids``: the store's ids of the frame's actions, in the order of its action table. A trace id is kept where
    there may be something to look up: its trace was recorded, or the request failed. Else it is NULL.
    """
    events = frame.events
    count = len(events)
    if not count:
        return b""
    rows = _SHEET[:count] if count <= len(_SHEET) else _blank(count)
    rows["at"] = measures.done_us - POSTGRES_EPOCH_US
    rows["series_id"] = np.asarray(series_ids, np.int32)[events["action"]]
    rows["producer_id"] = producer_id
    for column, name in _COPIED:
        rows[column] = events[name]
    rows["service_bucket"] = measures.service_bucket
    rows["response_bucket"] = measures.response_bucket
    traced = np.flatnonzero((events["flags"] & _RECORDED != 0) | measures.failed)
    return _splice(rows.tobytes(), traced.tolist(), events[_TRACE][traced].tolist())


def _splice(rows: bytes, traced: list[int], ids: list[bytes]) -> bytes:
    """Put trace ids where NULL stands."""
    if not traced:
        return rows
    whole, at = memoryview(rows), 0
    parts: list[bytes | memoryview] = []
    for row, trace in zip(traced, ids, strict=True):
        end = (row + 1) * _ROW.itemsize
        parts += (whole[at : end - _LENGTH_BYTES], _TRACE_LENGTH, trace)
        at = end
    return b"".join((*parts, whole[at:]))
