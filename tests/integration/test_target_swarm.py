"""The target Docker Swarm: the contract on a real one, and what only a Swarm does."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from docker.types import Resources, RestartPolicy, ServiceMode, UpdateConfig

from services.scaler.situation import Sizes
from services.scaler.targets.engine import EngineConnection
from services.scaler.targets.swarm import SwarmTarget
from tests.integration.docker_engine import IMAGE, Engine, run_engine
from tests.integration.target_contract import TargetContract

# One engine for all of them, whichever process they run in.
pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("docker")]
SERVICE = "relaycore"
UNTIL_TOLD = ["/bin/sh", "-c", "while [ ! -e /stage/end ]; do /bin/busybox sleep 0.3; done"]
MB = 1 << 20


@pytest.fixture(scope="module")
def module_engine() -> Iterator[Engine]:
    with run_engine(swarm=True) as started:
        yield started


@pytest.fixture
def engine(module_engine: Engine) -> Iterator[Engine]:
    yield module_engine
    module_engine.clear()


@dataclass
class SwarmStage:
    """A ``Stage``: a service whose replicas end when a file appears."""

    engine: Engine
    folder: Path
    stack: AsyncExitStack
    service: str = SERVICE
    sizes: Sizes | None = field(
        default_factory=lambda: Sizes(cpu_limit=0.5, memory_limit=96, cpu_reserved=0.02, memory_reserved=48)
    )
    room: int | None = None
    crash_loops: bool = True

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
        connection = EngineConnection(self.engine.url, 2.0)
        self.stack.callback(connection.close)
        return SwarmTarget(connection, name)

    async def instances(self) -> set[str]:
        found = await asyncio.to_thread(self.engine.client.api.containers)
        return {one["Id"] for one in found}

    async def loop(self) -> None:
        (self.folder / "end").touch()

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        with self.engine.frozen():
            yield


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
