"""The target of local processes: the contract on the real stand-in platform, and a supervisor that stumbles."""

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from services.scaler.situation import Observation, Sizes
from services.scaler.targets.local import LocalTarget
from services.scaler.targets.target import RefusedError
from shared.errors import TransientError
from tests.integration.platform_process import PlatformProcess, run_platform
from tests.integration.scaler_rig import SERVICE
from tests.integration.target_contract import TargetContract

pytestmark = pytest.mark.integration


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@dataclass
class LocalStage:
    """A ``Stage``: the stand-in platform with its supervisor."""

    platform: PlatformProcess
    session: aiohttp.ClientSession
    service: str = SERVICE
    sizes: Sizes | None = None
    room: int | None = None
    crash_loops: bool = False

    def target(self) -> LocalTarget:
        return LocalTarget(self.session, self.platform.supervisor_url, 1.0)

    async def instances(self) -> set[str]:
        async with self.session.get(f"{self.platform.supervisor_url}/services/{self.service}") as answer:
            return {one["id"] for one in (await answer.json())["instances"]}

    async def loop(self) -> None:
        raise NotImplementedError

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        self.platform.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.platform.process.send_signal(signal.SIGCONT)


class TestLocal(TargetContract):
    @pytest.fixture
    def stage(self, tmp_path: Path, session: aiohttp.ClientSession) -> Iterator[LocalStage]:
        with run_platform(tmp_path) as platform:
            yield LocalStage(platform, session)

    async def test_a_count_outside_the_supervisors_limits_is_refused_with_them(self, stage: LocalStage) -> None:
        with pytest.raises(RefusedError, match=r"422.*outside"):
            await stage.target().set_replicas(SERVICE, 99, 7, "relaycore-2")


STATE = {"desired": 2, "ready": 1, "instances": [{"state": "ready"}, {"state": "unhealthy"}]}


@pytest.mark.parametrize(
    ("statuses", "body", "outcome", "calls"),
    [
        ((503, 200), STATE, Observation(desired=2, ready=1, unhealthy=1), 2),
        ((503, 503, 503, 200), STATE, TransientError, 3),
        ((401,), STATE, RefusedError, 1),
        ((403,), STATE, RefusedError, 1),
        ((200,), {"desired": -1}, RefusedError, 1),
        ((200,), [], RefusedError, 1),
    ],
    ids=["one 503", "503 for ever", "401", "403", "nonsense", "not even an object"],
)
async def test_faults_of_the_supervisor_are_retried_a_few_times_and_refusals_are_not(
    session: aiohttp.ClientSession, statuses: tuple[int, ...], body: Any, outcome: Any, calls: int
) -> None:
    answers, seen = list(statuses), []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.json_response(body, status=answers.pop(0))

    app = web.Application()
    app.router.add_get("/services/relaycore", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        target = LocalTarget(session, f"http://127.0.0.1:{runner.addresses[0][1]}", 1.0)
        if isinstance(outcome, Observation):
            assert await target.observe(SERVICE) == outcome
        else:
            with pytest.raises(outcome):
                await target.observe(SERVICE)
    finally:
        await runner.cleanup()
    assert len(seen) == calls
