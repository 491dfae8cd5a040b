"""Whether the audit of one service is whole: in the table that keeps all of it, in the stream that keeps a month. Pure.

The chain must run through the table from record 1. What the stream has must be a chain without a gap, record for record
the same as in the table, and reach as far. That the end was cut off in both shows by the scaler's checkpoint. A record
that has left the stream by age or size is no fault: verification stands on the table.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.scaler.chain import Head, Links, name_of

LISTED = 20
"""Faults told of one service; of more, the number is."""

IN_STREAM = timedelta(days=29)
"""A record younger than this has not left the stream by age."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: its own columns, and the record they were taken from."""

    sequence: int
    hash: str
    kind: str
    decision: str
    at: datetime
    record: Any


@dataclass
class Findings:
    """What there is of a service's audit, and what is wrong with it. ``last``: sequence of the last record."""

    service: str
    in_table: int = 0
    in_stream: int = 0
    last: int = 0
    faults: list[str] = field(default_factory=list)

    def note(self, place: str, faults: Iterable[str]) -> None:
        self.faults += [f"{place}: {fault}" for fault in faults]

    def told(self) -> list[str]:
        """The first faults, and how many more there are."""
        more = len(self.faults) - LISTED
        return self.faults if more <= 0 else [*self.faults[:LISTED], f"and {more} more"]


class Verification:
    """Takes the rows of the table, then the messages of the stream, each in order; rows that came meanwhile last."""

    def __init__(self, service: str) -> None:
        self.findings = Findings(service)
        self._table, self._stream = Links(Head()), Links()
        self._hashes: dict[int, str] = {0: Head().hash}
        self._newest: datetime | None = None
        self._lacking: dict[int, str] = {}

    @property
    def lacking(self) -> bool:
        """Whether the stream has records that the table has not shown yet."""
        return bool(self._lacking)

    @property
    def rows_until(self) -> int:
        """Sequence of the last row taken."""
        return max(self._hashes)

    def take_row(self, row: Row) -> None:
        """The next row."""
        findings, self._newest = self.findings, row.at
        findings.in_table += 1
        record = row.record if isinstance(row.record, dict) else {}
        findings.note("table", [*self._table.add(record), *self._of_service(record), *_columns(row, record)])
        self._hashes[row.sequence] = row.hash
        if self._lacking.pop(row.sequence, row.hash) != row.hash:
            findings.note("table", [f"{name_of(record)}: the stream has another record there"])

    def take_message(self, body: bytes) -> None:
        """The next message."""
        findings, first = self.findings, self.findings.in_stream == 0
        findings.in_stream += 1
        try:
            record = json.loads(body)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            findings.note("stream", [f"message {findings.in_stream} of {findings.service} is no record"])
            return
        sequence = record.get("sequence")
        if first and type(sequence) is int and sequence - 1 in self._hashes:
            self._stream = Links(Head(sequence - 1, self._hashes[sequence - 1]))
        findings.note("stream", [*self._stream.add(record), *self._of_service(record)])
        if type(sequence) is not int:
            return
        kept = self._hashes.get(sequence)
        if kept is None:
            self._lacking[sequence] = str(record.get("hash"))
        elif kept != record.get("hash"):
            findings.note("stream", [f"{name_of(record)}: the table has another record there"])

    def finish(self, noted: Head | None, now: datetime) -> Findings:
        """``noted``: the last record that the scaler had noted beside the chain before anything was read."""
        findings, reached = self.findings, self._stream.head.sequence if self._stream.head else 0
        if self._lacking:
            findings.note("table", [f"lacks {_range(sorted(self._lacking))}, which the stream has"])
        if reached < self.rows_until and (findings.in_stream or (self._newest and self._newest > now - IN_STREAM)):
            findings.note("stream", [f"ends with record {reached}, while the table goes on to {self.rows_until}"])
        findings.last = max(reached, self.rows_until)
        if noted is not None and noted.sequence > findings.last:
            findings.note("both", [f"end with record {findings.last}, while the scaler has written {noted.sequence}"])
        elif noted is not None and self._hashes.get(noted.sequence, noted.hash) != noted.hash:
            findings.note("table", [f"record {noted.sequence} is not the one that the scaler has written"])
        return findings

    def _of_service(self, record: dict[str, Any]) -> Iterator[str]:
        if record.get("service") != self.findings.service:
            yield f"{name_of(record)}: is of service {record.get('service')}"


def _columns(row: Row, record: dict[str, Any]) -> Iterator[str]:
    columns = {"sequence": row.sequence, "hash": row.hash, "kind": row.kind, "decision": row.decision}
    for column, value in columns.items():
        if record.get(column) != value:
            yield f"{name_of(record)}: its column {column} says {value}"
    at = None
    with contextlib.suppress(ValueError):
        at = datetime.fromisoformat(str(record.get("at")))
    if at != row.at:
        yield f"{name_of(record)}: its column at says {row.at}"


def _range(sequences: list[int]) -> str:
    if len(sequences) == 1:
        return f"record {sequences[0]}"
    return f"{len(sequences)} records from {sequences[0]} to {sequences[-1]}"
