"""The audit chain: how a record is linked to the one before, and how a changed, missing or moved one is found. Pure.

Verification reads the JSON as it was published, not a model of it: a field that a later version adds to the record does
not change the hash of an older one.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.contracts.scaling import GENESIS, ScalingRecord


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain. ``position``: stream sequence of its last message, 0 for an empty chain."""

    sequence: int = 0
    hash: str = GENESIS
    position: int = 0


def link(head: Head, record: ScalingRecord) -> ScalingRecord:
    """The record as the next of the chain, sealed."""
    return record.model_copy(update={"sequence": head.sequence + 1, "previous_hash": head.hash, "hash": ""}).sealed()


def digest(record: dict[str, Any]) -> str:
    """SHA-256 (hex) of a record's canonical JSON without its hash; the same as ``ScalingRecord.digest``."""
    body = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Links:
    """Follows a chain record by record, so that one of any length can be checked.

    ``head``: the last record seen; at first the one before the beginning, where that is known. Without it the first
    record is taken at its word, unless it is the first of all.
    """

    def __init__(self, head: Head | None = None) -> None:
        self.head = head

    def add(self, record: dict[str, Any]) -> list[str]:
        """What is wrong with the next record, one line per fault."""
        sequence, name = record.get("sequence"), name_of(record)
        if type(sequence) is not int or sequence < 1:
            return [f"{name}: its sequence is no number of a chain"]
        faults = []
        if record.get("hash") != digest(record):
            faults.append(f"{name}: its content does not match its hash")
        head = Head() if self.head is None and sequence == 1 else self.head
        if head is not None and sequence != head.sequence + 1:
            faults.append(f"{name}: follows record {head.sequence}, so one is missing, doubled or moved")
        elif head is not None and record.get("previous_hash") != head.hash:
            faults.append(f"{name}: does not name the hash of the record before it")
        self.head = Head(sequence, str(record.get("hash")))
        return faults


def name_of(record: dict[str, Any]) -> str:
    """How a record is named in what people read."""
    return f"record {record.get('sequence')} ({record.get('kind')} of {record.get('decision')})"


def verify(records: Iterable[dict[str, Any]], start: Head | None = None) -> list[str]:
    """What is wrong with a chain, one line per fault; none when it is whole. ``start``: the record before the first."""
    links = Links(start)
    return [fault for record in records for fault in links.add(record)]
