"""An engine that refuses, stumbles or hangs, as both targets of the Engine API meet it."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from services.scaler.targets.docker_engine import DockerTarget
from services.scaler.targets.engine import EngineConnection
from services.scaler.targets.swarm import SwarmTarget
from services.scaler.targets.target import RefusedError
from shared.errors import TransientError

pytestmark = pytest.mark.integration
NO_MANAGER = "This node is not a swarm manager. Use docker swarm init"


class Stumbling:
    """An Engine API that tells its version and answers all else with a status, after a pause."""

    def __init__(self, path: Path) -> None:
        self.path, self.status, self.message, self.pause_s = path, 500, "no", 0.0
        self.asked = 0

    async def answer(self, request: web.Request) -> web.Response:
        if request.path.endswith("/version"):
            return web.json_response({"ApiVersion": "1.41", "Version": "20.10"})
        self.asked += 1
        await asyncio.sleep(self.pause_s)
        return web.json_response({"message": self.message}, status=self.status)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Stumbling]:
    made = Stumbling(tmp_path / "s")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(made.path)).start()
    yield made
    await runner.cleanup()


@pytest.fixture(params=[DockerTarget, SwarmTarget], ids=["docker", "swarm"])
async def target(request: pytest.FixtureRequest, engine: Stumbling) -> AsyncIterator[Any]:
    connection = EngineConnection(f"unix://{engine.path}", 0.5)
    yield request.param(connection)
    connection.close()


@pytest.mark.parametrize(
    ("status", "message", "raised", "asked"),
    [
        (401, "unauthorized", RefusedError, 1),
        (403, "authorization denied by plugin", RefusedError, 1),
        (400, "client version 1.41 is too old", RefusedError, 1),
        (503, NO_MANAGER, RefusedError, 1),
        (500, "internal", TransientError, 3),
        (503, "The swarm does not have a leader", TransientError, 3),
        (429, "slow down", TransientError, 3),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, int | str) else "",
)
async def test_refusals_are_told_at_once_and_faults_asked_again_a_few_times(
    engine: Stumbling, target: Any, status: int, message: str, raised: type[Exception], asked: int
) -> None:
    engine.status, engine.message = status, message
    with pytest.raises(raised, match=message[:20]):
        await target.observe("relaycore")
    assert engine.asked == asked
    with pytest.raises(raised):
        await target.set_replicas("relaycore", 3, 1, "d-1")


async def test_an_engine_that_hangs_is_waited_for_no_longer_than_allowed(engine: Stumbling, target: Any) -> None:
    engine.pause_s = 3.0
    began = time.monotonic()
    with pytest.raises(TransientError, match=r"no answer within 0\.5 s"):
        await target.observe("relaycore")
    assert time.monotonic() - began < 2.5
    assert engine.asked == 1
