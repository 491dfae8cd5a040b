"""The target Docker Engine: the contract on a real one, and what only containers do."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.scaler.situation import Sizes
from services.scaler.targets.docker_engine import DockerTarget
from services.scaler.targets.engine import EngineConnection
from tests.integration.docker_engine import Engine, run_engine
from tests.integration.target_contract import TargetContract

# One engine for all of them, whichever process they run in.
pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("docker")]
SERVICE = "relaycore"
UNTIL_TOLD = ["/bin/sh", "-c", "while [ ! -e /stage/end ]; do /bin/busybox sleep 0.3; done"]
SIZES: dict[str, Any] = {"nano_cpus": int(4e8), "cpu_shares": 16, "mem_limit": "64m", "mem_reservation": "32m"}


@pytest.fixture(scope="module")
def module_engine() -> Iterator[Engine]:
    with run_engine() as started:
        yield started


@pytest.fixture
def engine(module_engine: Engine) -> Iterator[Engine]:
    yield module_engine
    module_engine.clear()


@dataclass
class DockerStage:
    """A ``Stage``: containers that end when a file appears and are started again by the engine."""

    engine: Engine
    folder: Path
    stack: AsyncExitStack
    service: str = SERVICE
    sizes: Sizes | None = field(
        default_factory=lambda: Sizes(cpu_limit=0.5, memory_limit=96, cpu_reserved=0.03125, memory_reserved=48)
    )
    room: int | None = None
    crash_loops: bool = True

    def create(self, *names: str, command: list[str] = UNTIL_TOLD, **more: Any) -> list[Any]:
        """Containers of the service, as a person or Compose would have made them."""
        options = {
            "labels": {"tidegate.service": SERVICE},
            "volumes": [f"{self.folder}:/stage:ro"],
            "restart_policy": {"Name": "always"},
            "stop_signal": "SIGKILL",
            **more,
        }
        return [self.engine.run(name, command, **options) for name in names]

    def target(self, name: str | None = None) -> DockerTarget:
        connection = EngineConnection(self.engine.url, 2.0)
        self.stack.callback(connection.close)
        return DockerTarget(connection, name)

    async def instances(self) -> set[str]:
        found = await asyncio.to_thread(self.engine.client.api.containers, all=True)
        return {one["Id"] for one in found}

    async def loop(self) -> None:
        (self.folder / "end").touch()

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        with self.engine.frozen():
            yield


@pytest.fixture
async def empty_stage(engine: Engine, tmp_path: Path) -> AsyncIterator[DockerStage]:
    async with AsyncExitStack() as stack:
        yield DockerStage(engine, tmp_path, stack)


class TestDocker(TargetContract):
    @pytest.fixture
    def stage(self, empty_stage: DockerStage) -> DockerStage:
        # Of memory the machine has plenty, so it is the cores that bound it: 64 containers on each.
        empty_stage.create("web-1", "web-2", **SIZES)
        empty_stage.room = 64 * empty_stage.engine.client.info()["NCPU"] - 2
        return empty_stage
