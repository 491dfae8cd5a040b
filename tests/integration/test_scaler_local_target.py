"""The adapter of the supervisor against the real stand-in platform, and against one that stumbles."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from services.scaler.situation import Observation
from services.scaler.targets.local import LocalTarget
from services.scaler.targets.target import FencedError, RefusedError
from shared.errors import TransientError
from tests.integration.platform_process import run_platform
from tests.integration.scaler_rig import SERVICE, eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def test_the_real_supervisor_moves_replicas_once_and_refuses_older_epochs_and_wrong_counts(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with run_platform(tmp_path) as platform:
        target = LocalTarget(session, platform.supervisor_url, 2.0)
        assert await target.observe(SERVICE) == Observation(desired=2, ready=2)
        for _ in range(2):
            await target.set_replicas(SERVICE, 3, 7, "relaycore-1")

        async def grown() -> bool:
            return await target.observe(SERVICE) == Observation(desired=3, ready=3)

        await eventually("a third replica", grown)
        with pytest.raises(FencedError, match="409"):
            await target.set_replicas(SERVICE, 2, 6, "relaycore-1")
        with pytest.raises(RefusedError, match=r"422.*outside"):
            await target.set_replicas(SERVICE, 99, 7, "relaycore-2")
        with pytest.raises(RefusedError, match=r"404.*nobody"):
            await target.observe("nobody")
        assert await target.observe(SERVICE) == Observation(desired=3, ready=3)


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
