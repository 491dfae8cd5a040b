"""The audit chain: whole as written, and every way to tamper with it found."""

import json
from typing import Any

import pytest

from services.scaler.chain import Head, digest, link, verify
from services.scaler.policy import decide
from services.scaler.records import Scribe, replay_inputs
from services.scaler.situation import Memory
from shared.contracts.scaling import ScalingRecord
from tests.unit.scaler_cases import NOW_S, RELAYCORE, change, facts, open_breach, running

SITUATION = facts(running(2), {"cpu_usage": 0.1 + 0.7, "routing_latency": 1 / 3 * 1000}, (open_breach(),))
SCRIBE = Scribe("relaycore", "local", RELAYCORE)


def decision_record(memory: Memory) -> ScalingRecord:
    decision = decide(RELAYCORE, SITUATION, memory)
    return SCRIBE.decision(decision, SITUATION, memory, {}, name="relaycore-1", epoch=3, dry_run=False)


def chain() -> list[dict[str, Any]]:
    """Four linked records as they travel."""
    made = change(1, ok=None, done_s=None, verdict=None)
    head, kept = Head(), []
    for record in (
        decision_record(Memory()),
        SCRIBE.result(made, NOW_S, 3, ready=4),
        SCRIBE.effectiveness(made, NOW_S, 3, "helped", "it did", {"routing_latency": 12.25}),
        decision_record(Memory(changes=(change(),))),
    ):
        sealed = link(head, record)
        head = Head(sealed.sequence, sealed.hash)
        kept.append(json.loads(sealed.model_dump_json()))
    return kept


def test_a_chain_as_written_is_whole() -> None:
    records = chain()
    assert [record["sequence"] for record in records] == [1, 2, 3, 4]
    assert verify(records) == []
    assert digest(records[0]) == ScalingRecord.model_validate(records[0]).digest()


def test_a_chain_without_its_expired_beginning_is_checked_from_there() -> None:
    records = chain()
    assert verify(records[2:]) == []
    assert verify(records[2:], Head(2, records[1]["hash"])) == []
    assert verify(records[2:], Head(2, "0" * 64)) != []


def changed(records: list[dict[str, Any]]) -> None:
    records[1]["ready"] = 5


def changed_and_sealed_again(records: list[dict[str, Any]]) -> None:
    records[1]["ready"] = 5
    records[1]["hash"] = digest(records[1])


def renumbered_and_sealed_again(records: list[dict[str, Any]]) -> None:
    records[-1]["sequence"] = 9
    records[-1]["hash"] = digest(records[-1])


def removed(records: list[dict[str, Any]]) -> None:
    del records[1]


def swapped(records: list[dict[str, Any]]) -> None:
    records[1], records[2] = records[2], records[1]


def doubled(records: list[dict[str, Any]]) -> None:
    records.insert(1, records[1])


@pytest.mark.parametrize(
    "tamper", [changed, changed_and_sealed_again, renumbered_and_sealed_again, removed, swapped, doubled]
)
def test_tampering_is_found(tamper: Any) -> None:
    records = chain()
    tamper(records)
    assert verify(records) != []


def test_a_decision_is_made_again_from_its_record_alone() -> None:
    memory = Memory(changes=(change(90, verdict="worse"),), loud_since_s={"routing_latency": NOW_S - 100.123456})
    kept = ScalingRecord.model_validate_json(link(Head(), decision_record(memory)).model_dump_json())
    again = decide(*replay_inputs(kept))
    assert (again.action, again.target, again.reason, again.confidence) == (
        kept.action,
        kept.target,
        kept.reason,
        kept.confidence,
    )
    assert again.candidates == kept.candidates
