"""The scaler goes on hearing and acting when the broker was killed under it."""

import asyncio
from pathlib import Path

import pytest

from deploy.embedded.nats import NatsServer
from services.scaler.app import serve
from services.scaler.settings import ScalerSettings
from shared import reading
from shared.contracts.breach import BreachStatus
from shared.contracts.scaling import Action, ScalingRecord
from shared.reading import DeafError
from tests.integration.scaler_rig import Supervisor, background, eventually, open_world

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("away_s", [0.0, 6.0], ids=["and started again", "and away for longer than a lease lasts"])
async def test_a_broker_killed_while_replicas_start_leaves_one_decision_with_its_result(
    tmp_path: Path, environment: str, away_s: float
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
            await asyncio.sleep(away_s)
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
            assert {put["decision"] for put in world.supervisor.moves} == {decision.decision}
    finally:
        server.stop()


async def test_a_scaler_whose_consumer_the_broker_has_lost_ends_instead_of_standing_there_deaf(
    nats_url: str, environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "CHECK_S", 0.1)
    async with open_world(nats_url, environment, tmp_path, Supervisor()) as world:
        named = world.environment_variables("deaf").items()
        settings = ScalerSettings.model_validate({name.removeprefix("TIDEGATE_").lower(): v for name, v in named})
        running = asyncio.create_task(serve(settings, asyncio.Event()))
        await eventually("the stamp", lambda: _given(world.supervisor.puts))
        stream = world.bus.subjects.stream("BREACHES")
        for consumer in await world.bus.js.consumers_info(stream):
            await world.bus.js.delete_consumer(stream, consumer.name)
        with pytest.raises(DeafError):
            await asyncio.wait_for(running, 8)


async def _given(found: list[dict[str, object]]) -> bool:
    return bool(found)
