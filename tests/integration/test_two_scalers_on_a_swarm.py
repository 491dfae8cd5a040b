"""Two scalers and a real Swarm: the leader dies, or is frozen and thawed, in the middle of an action."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker.types import Healthcheck, ServiceMode

from services.scaler.situation import Observation
from services.scaler.targets.engine import EngineConnection
from services.scaler.targets.swarm import SwarmTarget
from shared.contracts.breach import BreachStatus
from shared.contracts.scaling import Action, ScalingRecord
from shared.errors import TransientError
from shared.settings import PROJECT_ROOT
from tests.integration.docker_engine import IMAGE, Engine, engine_fixtures
from tests.integration.engine_door import open_door
from tests.integration.scaler_rig import SERVICE, Supervisor, World, background, eventually, open_world

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("docker")]
TAKEOVER_S = 5.0
SECOND = 1_000_000_000
module_engine, engine = engine_fixtures(swarm=True)


@dataclass
class Swarm:
    """A service of two replicas; others are not healthy before ``let_start``."""

    world: World
    engine: Engine
    folder: Path
    target: SwarmTarget
    since: int

    def let_start(self) -> None:
        (self.folder / "healthy").touch()

    async def seen(self) -> Observation:
        """What is there; the load follows it."""
        found = await self.target.observe(SERVICE)
        self.world.supervisor.ready = found.ready
        return found

    async def follow(self) -> None:
        while True:
            with suppress(TransientError):
                await self.seen()
            await asyncio.sleep(0.2)

    async def listeners(self, count: int) -> bool:
        stream = self.world.bus.subjects.stream("BREACHES")
        return len(await self.world.bus.js.consumers_info(stream)) == count

    async def wanted(self, replicas: int) -> bool:
        return (await self.seen()).desired == replicas

    async def epoch(self) -> int:
        service = await asyncio.to_thread(self.engine.client.api.inspect_service, SERVICE)
        return int(service["Spec"]["Labels"].get("tidegate.epoch", 0))

    async def moves(self) -> list[tuple[str, str]]:
        """Each change of the count that the Swarm tells of."""

        def read() -> list[dict[str, Any]]:
            filters = {"type": "service", "event": "update"}
            # One second more, for events of the second that is not over.
            return list(self.engine.client.events(self.since, int(time.time()) + 1, filters, decode=True))

        changes = [event["Actor"]["Attributes"] for event in await asyncio.to_thread(read)]
        return [(one["replicas.old"], one["replicas.new"]) for one in changes if "replicas.new" in one]


@pytest.fixture
async def swarm(engine: Engine, nats_url: str, environment: str, tmp_path: Path) -> AsyncIterator[Swarm]:
    stage = tmp_path / "stage"
    stage.mkdir()
    check = Healthcheck(
        test=["CMD-SHELL", "[ -e /stage/healthy ]"], interval=SECOND // 4, retries=600, start_period=600 * SECOND
    )
    (stage / "healthy").touch()
    since = int(time.time())
    engine.client.services.create(
        IMAGE,
        ["/bin/busybox", "sleep", "1000"],
        name=SERVICE,
        mode=ServiceMode("replicated", 2),
        mounts=[f"{stage}:/stage:ro"],
        healthcheck=check,
        stop_grace_period=0,
    )
    connection = EngineConnection(engine.url, 10.0)
    async with open_world(nats_url, environment, tmp_path, Supervisor()) as world:
        rules = yaml.safe_load((tmp_path / "scaling.yaml").read_text())
        rules["target"] = {"kind": "swarm"}
        rules["services"][SERVICE]["tuning"] = {"effectiveness": {"ready_within": "60s"}}
        (tmp_path / "scaling.yaml").write_text(yaml.safe_dump(rules))
        made = Swarm(world, engine, stage, SwarmTarget(connection), since)

        async def ready() -> bool:
            return (await made.seen()).ready == 2

        await eventually("two replicas", ready, timeout_s=30)
        (stage / "healthy").unlink()
        async with background(made.follow()), background(world.load()):
            yield made
    connection.close()


@asynccontextmanager
async def two_scalers(swarm: Swarm, engine_url: dict[str, str]) -> AsyncIterator[dict[str, asyncio.subprocess.Process]]:
    """The first leads, the second stands by; each speaks to the engine by its own way."""
    processes: dict[str, asyncio.subprocess.Process] = {}
    try:
        for name, url in engine_url.items():
            named = {**swarm.world.environment_variables(name), "DOCKER_HOST": url, "TIDEGATE_SCALER_LEASE_S": "0.25"}
            processes[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.scaler", cwd=PROJECT_ROOT, env={**os.environ, **named}
            )
            await eventually("a leader", swarm.world.leader, timeout_s=20)
        await eventually("both to listen", lambda: swarm.listeners(2), timeout_s=20)
        assert await swarm.world.leader() == next(iter(engine_url))
        await eventually("the stamp", swarm.epoch)
        yield processes
    finally:
        for process in processes.values():
            if process.returncode is None:
                process.terminate()
        await asyncio.gather(*(process.wait() for process in processes.values()))


async def took_over(swarm: Swarm, leader: str, since: float) -> None:
    async def taken() -> bool:
        return await swarm.world.leader() not in (leader, "")

    await eventually("the takeover", taken, timeout_s=10)
    assert time.monotonic() - since < TAKEOVER_S


async def ups(world: World) -> list[ScalingRecord]:
    return await world.records("decision", Action.SCALE_UP)


async def test_a_leader_killed_while_replicas_start_is_followed_and_the_swarm_is_told_once(swarm: Swarm) -> None:
    url = swarm.engine.url
    async with two_scalers(swarm, {"one": url, "two": url}) as processes:
        await swarm.world.breach(BreachStatus.OPENED)
        await eventually("four to be wanted", lambda: swarm.wanted(4), timeout_s=15)
        first = await swarm.epoch()
        processes["one"].kill()
        await took_over(swarm, "one", time.monotonic())

        async def stamped() -> bool:
            return await swarm.epoch() > first

        await eventually("the stamp of the second", stamped)
        swarm.let_start()
        [result] = await eventually("a result", lambda: swarm.world.records("result"), timeout_s=20)
        [decision] = await ups(swarm.world)
        assert (result.decision, result.ok, result.ready) == (decision.decision, True, 4)
        assert decision.lease_epoch == first < result.lease_epoch == await swarm.epoch()
        assert await swarm.moves() == [("2", "4")]


async def test_a_leader_frozen_in_the_middle_of_its_update_and_thawed_is_refused_by_the_swarm(
    swarm: Swarm, tmp_path: Path
) -> None:
    direct = swarm.engine.url
    behind = Path(direct.removeprefix("unix://"))
    # Beside the engine's own: a socket's path has to be short.
    async with (
        open_door(behind.with_name("door"), behind) as door,
        two_scalers(swarm, {"one": door.url, "two": direct}) as processes,
    ):
        first, frozen = await swarm.epoch(), processes["one"]
        door.hold = b"/update?"
        await swarm.world.breach(BreachStatus.OPENED)
        await asyncio.wait_for(door.held.wait(), 15)
        frozen.send_signal(signal.SIGSTOP)
        try:
            await took_over(swarm, "one", time.monotonic())
            await eventually("four to be wanted", lambda: swarm.wanted(4), timeout_s=15)
            second = await swarm.epoch()
            assert second > first
        finally:
            frozen.send_signal(signal.SIGCONT)
        door.release.set()

        async def answered() -> bool:
            return bool(door.answers)

        await eventually("the answer to the thawed leader", answered)
        assert b" 500 " in door.answers[0]
        assert b"update out of sequence" in door.answers[0]
        swarm.let_start()

        async def done() -> bool:
            return any(record.ok and record.ready == 4 for record in await swarm.world.records("result"))

        await eventually("four replicas", done, timeout_s=20)
        assert await swarm.moves() == [("2", "4")]
        assert await swarm.epoch() == second
        assert frozen.returncode is None
        assert await swarm.world.leader() == "two"
        decided = [(record.lease_epoch, record.target) for record in await ups(swarm.world)]
        assert decided == [(first, 4), (second, 4)]
