"""The target Docker Swarm: the contract on a real one, and what only a Swarm does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError
from docker.types import Healthcheck, Resources, RestartPolicy, ServiceMode, UpdateConfig

from services.scaler.situation import Observation, Sizes
from services.scaler.targets.engine import post
from services.scaler.targets.swarm import SwarmTarget
from services.scaler.targets.target import FencedError, RefusedError
from shared.errors import TransientError
from tests.integration.docker_engine import IMAGE, Engine, engine_fixtures
from tests.integration.engine_stage import SERVICE, UNTIL_TOLD, EngineStage
from tests.integration.target_contract import BACK_S, TargetContract, eventually, settled

# One engine for all of them, whichever process they run in.
pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("docker")]
MB = 1 << 20
module_engine, engine = engine_fixtures(swarm=True)


@dataclass
class SwarmStage(EngineStage):
    """A ``Stage``: a service whose replicas end when a file appears."""

    sizes: Sizes | None = field(
        default_factory=lambda: Sizes(cpu_limit=0.5, memory_limit=96, cpu_reserved=0.02, memory_reserved=48)
    )

    def create(self, name: str = SERVICE, replicas: int = 2, command: list[str] = UNTIL_TOLD, **more: Any) -> Any:
        """A service of the Swarm; tasks end at once, are restarted soon, and are updated one after the other."""
        options = {
            "mode": ServiceMode("replicated", replicas),
            "restart_policy": RestartPolicy("any", delay=300_000_000),
            "update_config": UpdateConfig(parallelism=1, delay=0, monitor=1_000_000_000),
            "mounts": [f"{self.folder}:/stage:ro"],
            "stop_grace_period": 0,
            **more,
        }
        return self.engine.client.services.create(IMAGE, command, name=name, **options)

    def target(self, name: str | None = None) -> SwarmTarget:
        return SwarmTarget(self.connect(), lambda service: name or service)

    async def instances(self) -> set[str]:
        found = await asyncio.to_thread(self.engine.client.api.containers)
        return {one["Id"] for one in found}


@pytest.fixture
async def empty_stage(engine: Engine, tmp_path: Path) -> AsyncIterator[SwarmStage]:
    async with AsyncExitStack() as stack:
        yield SwarmStage(engine, tmp_path, stack)


class TestSwarm(TargetContract):
    @pytest.fixture
    def stage(self, empty_stage: SwarmStage) -> SwarmStage:
        cores = empty_stage.engine.client.info()["NCPU"]
        # Of memory the node has plenty, so it is the cores that bound it: 100 tasks on each.
        reserved = Resources(cpu_limit=int(4e8), cpu_reservation=int(1e7), mem_limit=64 * MB, mem_reservation=32 * MB)
        empty_stage.create(resources=reserved)
        empty_stage.room = 100 * cores - 2
        return empty_stage


async def test_an_update_that_fails_is_rolled_back_and_told_all_the_while(empty_stage: SwarmStage) -> None:
    empty_stage.create(resources=Resources(cpu_limit=int(2e8)))
    target = empty_stage.target()
    await settled(target, SERVICE, 2)
    before = await target.sizes(SERVICE)
    # More than the machine has: the engine refuses to start such a container.
    await target.set_sizes(SERVICE, Sizes(cpu_limit=9999), 7, "d-1")
    assert (await target.observe(SERVICE)).updating

    async def back() -> bool:
        seen = await target.observe(SERVICE)
        assert seen.desired == 2
        return await target.sizes(SERVICE) == before and not seen.updating

    await eventually("the old sizes again", back)
    await settled(target, SERVICE, 2)


async def test_an_update_under_way_is_neither_ended_nor_joined(empty_stage: SwarmStage) -> None:
    empty_stage.create(resources=Resources(cpu_limit=int(2e8)), update_config=UpdateConfig(delay=2_000_000_000))
    target = empty_stage.target()
    await settled(target, SERVICE, 2)
    wanted = Sizes(cpu_limit=0.3)
    await target.set_sizes(SERVICE, wanted, 7, "d-1")

    async def under_way() -> bool:
        return (await target.observe(SERVICE)).updating

    await eventually("the update", under_way)
    with pytest.raises(RefusedError, match="being updated"):
        await target.set_replicas(SERVICE, 3, 7, "d-2")
    await settled(target, SERVICE, 2)
    assert await target.sizes(SERVICE) == wanted
    await target.set_replicas(SERVICE, 3, 7, "d-2")
    await settled(target, SERVICE, 3)


async def test_what_others_write_at_the_same_time_stays(empty_stage: SwarmStage) -> None:
    service = empty_stage.create()
    target = empty_stage.target()
    await settled(target, SERVICE, 2)
    api = empty_stage.engine.client.api

    def label_often() -> None:
        for number in range(10):
            with contextlib.suppress(APIError):
                found = api.inspect_service(service.id)
                labels = {**found["Spec"].get("Labels", {}), "team": f"t{number}"}
                spec = {**found["Spec"], "Labels": labels}
                post(api, f"/services/{service.id}/update", spec, version=found["Version"]["Index"])

    others = asyncio.create_task(asyncio.to_thread(label_often))
    for replicas in (3, 2, 3, 4):
        await target.set_replicas(SERVICE, replicas, 7, "d-1")
        assert (await target.observe(SERVICE)).desired == replicas
    await others
    spec = api.inspect_service(service.id)["Spec"]
    assert spec["Labels"].keys() == {"team", "tidegate.epoch", "tidegate.decision"}
    await settled(target, SERVICE, 4)


async def test_replicas_count_once_they_are_healthy(empty_stage: SwarmStage) -> None:
    check = Healthcheck(
        test=["CMD-SHELL", "[ -e /stage/healthy ]"], interval=300_000_000, retries=900, start_period=300_000_000_000
    )
    empty_stage.create(healthcheck=check)
    target = empty_stage.target()

    async def starting() -> bool:
        return await target.observe(SERVICE) == Observation(desired=2, ready=0, starting=2)

    await eventually("two that start", starting)
    (empty_stage.folder / "healthy").touch()
    await settled(target, SERVICE, 2)


async def test_one_that_fits_nowhere_is_starting_and_there_is_no_room_for_more(empty_stage: SwarmStage) -> None:
    cores = empty_stage.engine.client.info()["NCPU"]
    empty_stage.create(resources=Resources(cpu_reservation=int(cores * 6e8)))
    target = empty_stage.target()

    async def one() -> bool:
        return await target.observe(SERVICE) == Observation(desired=2, ready=1, starting=1)

    await eventually("one of two", one)
    assert await target.room(SERVICE) == 0


async def test_a_service_on_every_node_is_refused_and_one_of_another_name_is_found(empty_stage: SwarmStage) -> None:
    empty_stage.create("every", mode=ServiceMode("global"))
    with pytest.raises(RefusedError, match="every is of the mode Global"):
        await empty_stage.target("every").observe(SERVICE)
    empty_stage.create("shop_web")
    await settled(empty_stage.target("shop_web"), SERVICE, 2)


async def test_an_engine_killed_and_started_again_has_forgotten_nothing(empty_stage: SwarmStage) -> None:
    empty_stage.create()
    target = empty_stage.target()
    await settled(target, SERVICE, 2)
    await target.set_replicas(SERVICE, 3, 7, "d-1")
    await asyncio.to_thread(empty_stage.engine.kill)
    with pytest.raises(TransientError):
        await target.observe(SERVICE)
    await asyncio.to_thread(empty_stage.engine.start)

    async def answers() -> bool:
        # Until its manager has found itself it says that it is none.
        with contextlib.suppress(TransientError, RefusedError):
            return (await target.observe(SERVICE)).desired == 3
        return False

    await eventually("an answer", answers, BACK_S)
    await settled(target, SERVICE, 3)
    with pytest.raises(FencedError):
        await target.set_replicas(SERVICE, 2, 6, "d-0")
