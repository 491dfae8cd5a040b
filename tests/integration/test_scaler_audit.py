"""The audit stream on a real NATS: one chain whoever writes, also when answers are lost."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from services.scaler.audit import AuditStream, ChainMovedError
from services.scaler.chain import Head
from services.scaler.checkpoints import Checkpoint, Checkpoints
from services.scaler.history import Remembered
from services.scaler.policy import decide
from services.scaler.records import Scribe
from services.scaler.situation import Memory
from shared.bus import Bus, open_bus
from tests.unit.scaler_cases import NOW_S, RELAYCORE, change, facts, running

pytestmark = pytest.mark.integration


@pytest.fixture
async def bus(nats_url: str, environment: str) -> AsyncIterator[Bus]:
    async with open_bus(nats_url, environment, "test") as opened:
        yield opened


def record(bus: Bus, ready: int = 4) -> Any:
    scribe = Scribe("relaycore", bus.subjects.environment, RELAYCORE)
    return scribe.result(change(1, ok=None, done_s=None, verdict=None), NOW_S, 1, ready=ready)


def a_decision(bus: Bus) -> Any:
    situation = facts(running(2))
    scribe = Scribe("relaycore", bus.subjects.environment, RELAYCORE)
    made = decide(RELAYCORE, situation, Memory())
    return scribe.decision(made, situation, Memory(), {}, name="relaycore-2", epoch=1, dry_run=False)


async def test_of_two_writers_one_is_refused_and_the_chain_stays_one(bus: Bus) -> None:
    first, second = AuditStream(bus.js, bus.subjects), AuditStream(bus.js, bus.subjects)
    kept, head = await first.append(Head(), record(bus), {})
    with pytest.raises(ChainMovedError, match="another wrote record 1 first"):
        await second.append(Head(), record(bus, ready=5), {})
    past = await second.read("relaycore")
    assert (past.records, past.head, past.faults) == ((kept,), head, ())
    await second.append(past.head, record(bus, ready=5), {})
    assert [one.sequence for one in (await first.read("relaycore")).records] == [1, 2]


async def test_a_chain_is_taken_up_from_its_end_however_long_it_is(bus: Bus) -> None:
    audit, head = AuditStream(bus.js, bus.subjects), Head()
    for ready in (4, 5, 6):
        _, head = await audit.append(head, record(bus, ready=ready), {})
    decided, head = await audit.append(head, a_decision(bus), {})
    past = await audit.read("relaycore", reach=timedelta(0))
    assert (past.records, past.head, past.faults) == ((decided,), head, ())


async def test_without_a_checkpoint_it_is_read_back_to_a_decision_which_tells_what_stood(bus: Bus) -> None:
    audit, head = AuditStream(bus.js, bus.subjects), Head()
    decided, head = await audit.append(head, a_decision(bus), {})
    result, head = await audit.append(head, record(bus), {})
    past = await audit.read("relaycore", reach=timedelta(0))
    assert (past.records, past.head, past.faults) == ((decided, result), head, ())


class DeafJetStream:
    """Publishes or not, and never hears the answer the first time."""

    def __init__(self, js: Any, *, publishes: bool) -> None:
        self._js, self._publishes, self.calls = js, publishes, 0

    async def publish(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls > 1:
            return await self._js.publish(*args, **kwargs)
        if self._publishes:
            await self._js.publish(*args, **kwargs)
        raise TimeoutError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._js, name)


@pytest.mark.parametrize(("publishes", "calls"), [(True, 1), (False, 2)], ids=["kept", "not kept"])
async def test_a_lost_answer_leads_to_one_record_and_success(bus: Bus, publishes: bool, calls: int) -> None:
    deaf: Any = DeafJetStream(bus.js, publishes=publishes)
    await AuditStream(bus.js, bus.subjects).append(Head(), record(bus), {})
    past = await AuditStream(bus.js, bus.subjects).read("relaycore")
    kept, head = await AuditStream(deaf, bus.subjects).append(past.head, record(bus, ready=5), {})
    again = await AuditStream(bus.js, bus.subjects).read("relaycore")
    assert (len(again.records), again.records[-1], again.head) == (2, kept, head)
    assert deaf.calls == calls


async def test_one_that_knows_the_last_decision_reads_from_there_and_else_as_far_as_ever(bus: Bus) -> None:
    audit, head = AuditStream(bus.js, bus.subjects), Head()
    for one in (record(bus), a_decision(bus), record(bus, ready=5)):
        _, head = await audit.append(head, one, {})
    known = await audit.read("relaycore", 2)
    assert ([one.sequence for one in known.records], known.decided, known.head) == ([2, 3], 2, head)
    for unknown in (0, 3, 99):
        past = await audit.read("relaycore", unknown)
        assert ([one.sequence for one in past.records], past.decided, past.head) == ([1, 2, 3], 2, head)


async def test_nothing_of_a_leader_that_was_overtaken_replaces_its_successors_checkpoint(bus: Bus) -> None:
    bucket = await bus.bucket("checkpoints")
    frozen, successor = Checkpoints(bucket, "relaycore"), Checkpoints(bucket, "relaycore")
    assert await frozen.read() is None
    first, later, stale = (
        Checkpoint(decided=number, sequence=number, hash="", remembered=Remembered(looked_s=float(number)))
        for number in (1, 2, 3)
    )
    await frozen.write(first)
    assert await successor.read() == first
    await successor.write(later)
    await frozen.write(stale)
    assert await Checkpoints(bucket, "relaycore").read() == later
    await bucket.put("scaler.relaycore", b"{")
    assert await successor.read() is None
    await successor.write(later)
    assert await successor.read() == later
