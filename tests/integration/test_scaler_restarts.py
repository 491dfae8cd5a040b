"""The scaler goes on hearing and acting when the broker was killed under it."""

import asyncio
from pathlib import Path

import pytest

from deploy.embedded.nats import NatsServer
from shared.contracts.breach import BreachStatus
from shared.contracts.scaling import Action, ScalingRecord
from tests.integration.scaler_rig import Supervisor, background, eventually, open_world

pytestmark = pytest.mark.integration


async def test_a_broker_killed_while_replicas_start_leaves_one_decision_with_its_result(
    tmp_path: Path, environment: str
) -> None:
    server = NatsServer(tmp_path / "nats")
    server.start()
    try:
        async with (
            open_world(server.url, environment, tmp_path, Supervisor(starts=False)) as world,
            background(world.load()),
            world.scaler(),
        ):
            await eventually("the stamp", lambda: _given(world.supervisor.puts))
            await world.breach(BreachStatus.OPENED)
            await eventually("a move", lambda: _given(world.supervisor.moves))
            await asyncio.to_thread(server.kill)
            world.supervisor.start_all()
            await asyncio.to_thread(server.start)

            async def results() -> list[ScalingRecord]:
                return await world.records("result") if world.bus.connected else []

            [result] = await eventually("a result", results, timeout_s=15)
            [decision] = await world.records("decision", Action.SCALE_UP)
            assert (result.decision, result.ok, result.ready) == (decision.decision, True, 4)

            await world.breach(BreachStatus.RESOLVED)

            async def heard() -> list[ScalingRecord]:
                return [record for record in await world.records("decision") if record.reason_code == "steady"]

            await eventually("the end of the breach to be heard", heard)
            assert [put["replicas"] for put in world.supervisor.moves].count(4) == len(world.supervisor.moves)
    finally:
        server.stop()


async def _given(found: list[dict[str, object]]) -> bool:
    return bool(found)
