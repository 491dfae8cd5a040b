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


def verify(records: Iterable[dict[str, Any]], start: Head | None = None) -> list[str]:
    """What is wrong with a chain, one line per fault; none when it is whole.

    ``start``: the record before the first, where the stream no longer holds the beginning. Without it the first record
    is taken at its word.
    """
    faults: list[str] = []
    head = start
    for record in records:
        sequence, previous = record.get("sequence"), record.get("previous_hash")
        name = f"record {sequence} ({record.get('kind')} of {record.get('decision')})"
        if record.get("hash") != digest(record):
            faults.append(f"{name}: its content does not match its hash")
        if head is None and sequence == 1:
            head = Head()
        if head is not None and sequence != head.sequence + 1:
            faults.append(f"{name}: follows record {head.sequence}, so one is missing, doubled or moved")
        elif head is not None and previous != head.hash:
            faults.append(f"{name}: does not name the hash of the record before it")
        head = Head(int(sequence or 0), str(record.get("hash")))
    return faults
