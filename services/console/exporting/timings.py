"""Rows of ``request_timing`` as columns of an export, whole columns at a time. Pure."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.console.exporting.tables import MOMENT, What, schema_of
from shared.contracts.timing import Check, ErrorKind, EventFlag, Kind
from shared.store.exports import POSTGRES_EPOCH_US
from shared.store.series import Series

SCHEMA = schema_of(What.REQUESTS)
_TRACE_BYTES = 16
_PLAIN = {
    "user": "user_no",
    "attempt": "attempt",
    "dispatch_delay_us": "dispatch_us",
    "service_time_us": "service_us",
    "connect_time_us": "connect_us",
    "tokens": "tokens",
    "bytes_received": "bytes_in",
    "bytes_sent": "bytes_out",
}


class Coded:
    """A column of names: each once, and by id of the store which of them is meant."""

    def __init__(self, named: Mapping[int, str]) -> None:
        names = sorted(set(named.values()))
        self._names = pa.array(names, pa.string())
        self._ids = np.array(sorted(named), np.int64)
        self._codes = np.array([names.index(named[number]) for number in sorted(named)], np.int32)

    def column(self, numbers: NDArray[np.integer]) -> pa.DictionaryArray:
        """Names of a column of ids. ``KeyError`` for an id that has none."""
        where = np.minimum(np.searchsorted(self._ids, numbers), len(self._ids) - 1)
        if not (self._ids[where] == numbers).all():
            raise KeyError("an event is of an action or worker that the store has no name of")
        return pa.DictionaryArray.from_arrays(pa.array(self._codes[where]), self._names)


def _of_enum(kind: type[IntEnum]) -> Coded:
    """Numbers that a later version may have given a name come as themselves."""
    return Coded({number: str(number) for number in range(64)} | {item.value: item.name.lower() for item in kind})


_ERRORS, _CHECKS = _of_enum(ErrorKind), _of_enum(Check)


class TimingTable:
    """Knows the names of a run, makes a record batch of each array that ``shared.store.exports`` reads of it."""

    def __init__(self, run: str, series: Sequence[Series], workers: dict[int, str]) -> None:
        self._run = Coded({0: run})
        self._names = {
            "system": Coded({item.series_id: item.system for item in series}),
            "scenario": Coded({item.series_id: item.scenario for item in series}),
            "action": Coded({item.series_id: item.action for item in series}),
            "kind": Coded({item.series_id: Kind(item.kind).name.lower() for item in series}),
        }
        self._workers = Coded(workers)

    def batch(self, rows: NDArray[np.void]) -> pa.RecordBatch:
        done_us = rows["at"].astype(np.int64) + POSTGRES_EPOCH_US
        dispatch_us, service_us = rows["dispatch_us"].astype(np.int64), rows["service_us"].astype(np.int64)
        streamed = rows["ttft_us"] != 0
        flags = rows["flags"]
        series_id = rows["series_id"].astype(np.int64)
        columns: dict[str, pa.Array] = {name: coded.column(series_id) for name, coded in self._names.items()}
        columns |= {name: _number(rows[column], name) for name, column in _PLAIN.items()}
        columns |= {
            "run": self._run.column(np.zeros(len(rows), np.int64)),
            "worker": self._workers.column(rows["producer_id"].astype(np.int64)),
            "intended_at": pa.array(done_us - service_us - dispatch_us, MOMENT),
            "sent_at": pa.array(done_us - service_us, MOMENT),
            "done_at": pa.array(done_us, MOMENT),
            "response_time_us": pa.array(dispatch_us + service_us),
            "time_to_first_byte_us": _number(rows["ttfb_us"], "time_to_first_byte_us", rows["ttfb_us"] != 0),
            "time_to_first_token_us": _number(rows["ttft_us"], "time_to_first_token_us", streamed),
            "longest_token_gap_us": _number(rows["gap_us"], "longest_token_gap_us", streamed),
            "status": _number(rows["status"], "status", rows["status"] != 0),
            "error": _ERRORS.column(rows["error"].astype(np.int64)),
            "check": _CHECKS.column(rows["check_result"].astype(np.int64)),
            "in_ramp_up": pa.array(flags & EventFlag.RAMP_UP.value != 0),
            "trace_recorded": pa.array(flags & EventFlag.TRACE_RECORDED.value != 0),
            "trace_id": _hex(rows["trace_id"]),
        }
        return pa.record_batch([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _number(column: NDArray[Any], name: str, known: NDArray[np.bool_] | None = None) -> pa.Array:
    kind = SCHEMA.field(name).type
    return pa.array(column.astype(kind.to_pandas_dtype()), kind, mask=None if known is None else ~known)


def _hex(column: NDArray[np.void]) -> pa.Array:
    """Sixteen bytes as 32 digits, NULL where all are zero; written into Arrow's buffers for all rows at once."""
    ids = np.ascontiguousarray(column).view(np.uint8).reshape(-1, _TRACE_BYTES)
    known = ids.any(axis=1)
    offsets = np.zeros(len(ids) + 1, np.int32)
    np.cumsum(known * np.int32(2 * _TRACE_BYTES), out=offsets[1:])
    digits = ids[known].tobytes().hex().encode()
    valid = np.packbits(known, bitorder="little").tobytes()
    return pa.StringArray.from_buffers(len(ids), pa.py_buffer(offsets), pa.py_buffer(digits), pa.py_buffer(valid))
