"""What the stages of Docker Engine and Docker Swarm have in common."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.scaler.situation import Sizes
from services.scaler.targets.engine import EngineConnection
from tests.integration.docker_engine import Engine

SERVICE = "relaycore"
UNTIL_TOLD = ["/bin/sh", "-c", "while [ ! -e /stage/end ]; do /bin/busybox sleep 0.3; done"]
"""A replica that ends when a file appears."""


@dataclass
class EngineStage:
    """The part of a ``Stage`` that containers and services of an engine have in common."""

    engine: Engine
    folder: Path
    stack: AsyncExitStack
    service: str = SERVICE
    sizes: Sizes | None = None
    room: int | None = None
    crash_loops: bool = True

    def connect(self) -> EngineConnection:
        connection = EngineConnection(self.engine.url, 2.0)
        self.stack.callback(connection.close)
        return connection

    async def loop(self) -> None:
        (self.folder / "end").touch()

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        with self.engine.frozen():
            yield
