"""Of two scaler processes one acts, whatever happens to it in the middle of an action: killed, frozen, thawed."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.breach import BreachStatus
from shared.contracts.scaling import Action
from tests.integration.scaler_rig import TUNING, Supervisor, World, background, eventually, open_world

pytestmark = pytest.mark.integration

STARTED_S = 45.0
"""How long two processes may take to begin on a machine that does other things too."""

TAKEN_OVER_S = 5.0


@pytest.fixture
async def world(nats_url: str, environment: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(nats_url, environment, tmp_path, Supervisor()) as made:
        yield made


class Pair:
    """The process that leads from the beginning, and the one that stands by."""

    def __init__(self, leader: asyncio.subprocess.Process, standby: asyncio.subprocess.Process) -> None:
        self.leader, self.standby = leader, standby

    def signal(self, sign: signal.Signals) -> None:
        os.kill(self.leader.pid, sign)


@asynccontextmanager
async def two_scalers(world: World, leading: str = "services.scaler") -> AsyncIterator[Pair]:
    """Both up, the first of them leading; ended in order, also one that is frozen."""
    leader = await world.scaler_process("leader", leading)
    processes = [leader]
    try:
        await eventually("the leader's stamp", lambda: given(world.supervisor.puts), STARTED_S)
        standby = await world.scaler_process("standby")
        processes.append(standby)

        async def listens() -> bool:
            stream = world.bus.subjects.stream("BREACHES")
            return len(await world.bus.js.consumers_info(stream)) == 2

        await eventually("the standby to listen", listens, STARTED_S)
        yield Pair(leader, standby)
    finally:
        for process in processes:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        async with asyncio.timeout(20):
            await asyncio.gather(*(process.wait() for process in processes))


async def given(found: Any) -> Any:
    return found


async def takeover(world: World, since: float) -> float:
    """Seconds until the successor has acted: the target has heard its epoch."""
    first = world.supervisor.puts[0]["epoch"]
    await eventually("the takeover", lambda: given(world.supervisor.epoch > first), 15)
    return time.monotonic() - since


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_the_standby_acts_within_five_seconds_of_the_leaders_end(world: World, sign: signal.Signals) -> None:
    async with background(world.load()), two_scalers(world) as pair:
        began = time.monotonic()
        pair.signal(sign)
        assert await takeover(world, began) < TAKEN_OVER_S
        assert await world.leader() == "standby"


async def test_a_leader_that_is_stopped_in_order_is_followed_at_once(world: World) -> None:
    async with background(world.load()), two_scalers(world) as pair:
        began = time.monotonic()
        pair.signal(signal.SIGTERM)
        assert await takeover(world, began) < 3


@pytest.mark.parametrize("where", ["before a byte is sent", "carried out and not answered", "carried out late"])
async def test_a_leader_frozen_in_the_middle_of_an_action_and_thawed_leaves_one_set_of_actions(
    world: World, where: str
) -> None:
    supervisor, before = world.supervisor, where == "before a byte is sent"
    frozen = asyncio.Event()
    async with (
        background(world.load()),
        two_scalers(world, "tests.integration.freezing_scaler" if before else "services.scaler") as pair,
    ):
        first = supervisor.epoch

        async def heard(put: dict[str, Any]) -> None:
            if put["decision"] and put["epoch"] == first and not frozen.is_set():
                pair.signal(signal.SIGSTOP)
                frozen.set()
                if where == "carried out late":
                    await eventually("the successor's epoch", lambda: given(supervisor.epoch > first), 15)

        supervisor.heard = None if before else heard
        await world.breach(BreachStatus.OPENED)
        [decision] = await eventually("a decision", lambda: world.records("decision", Action.SCALE_UP))
        began = time.monotonic()
        assert await takeover(world, began) < TAKEN_OVER_S + 0.5
        await eventually("an effect", lambda: world.records("effectiveness"), 20)
        pair.signal(signal.SIGCONT)
        if where != "carried out and not answered":
            await eventually("the older epoch to be refused", lambda: given(supervisor.fenced))
        await asyncio.sleep(2)

        assert pair.leader.returncode is None, "it stands by and goes on living"
        assert {put["epoch"] for put in supervisor.fenced} <= {first}
        acted = {(put["replicas"], put["decision"]) for put in supervisor.moves if put["replicas"] != 2}
        assert [replicas for replicas, _ in acted] == [4], "stamps repeat the count of the same decision"
        assert supervisor.replicas == 4
        later = [record for record in await world.records() if record.sequence > decision.sequence]
        assert {record.lease_epoch for record in later} == {supervisor.epoch}
        results = {record.decision: record.ok for record in later if record.kind == "result"}
        if where == "carried out and not answered":
            assert results == {decision.decision: True}
        else:
            assert results.pop(decision.decision) is False
            assert list(results.values()) == [True]
        await world.breach(BreachStatus.RESOLVED)


async def test_a_takeover_forgets_neither_idleness_nor_what_was_wanted(world: World) -> None:
    world.supervisor.replicas = world.supervisor.ready = 6
    down = {"idle_for": "15s", "all": [{"metric": "request_rate", "below": 50}, {"metric": "cpu_usage", "below": 0.25}]}
    world.change_rules(down=down, tuning=TUNING | {"freshness": "5s", "stabilization": {"up": "0s", "down": "15s"}})
    world.values = lambda _: {"cpu_usage": 0.05, "request_rate": 5.0, "queue_length": 0.0, "routing_latency": 5.0}
    async with background(world.load()), two_scalers(world) as pair:
        [first, *_] = await eventually("a decision", lambda: world.records("decision"))
        began = first.inputs["memory"]["watched_since_s"]
        await asyncio.sleep(max(0.0, began + 7 - time.time()))
        pair.signal(signal.SIGKILL)
        killed = time.time()
        [decision] = await eventually("a scale-down", lambda: world.records("decision", Action.SCALE_DOWN), 30)
        assert decision.lease_epoch > first.lease_epoch
        memory = decision.inputs["memory"]
        assert memory["watched_since_s"] == began
        assert memory["idle_since_s"] < killed, "15 s of idleness, and not 15 s since the takeover"
        assert 15 <= decision.at.timestamp() - memory["idle_since_s"] < 25
