"""The target of local processes: the contract on the real stand-in platform, and a supervisor that stumbles."""

import asyncio
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
from tests.integration.target_contract import TargetContract, eventually, settled

pytestmark = pytest.mark.integration


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


OTHER_SIZES = Sizes(cpu_limit=1.25, memory_limit=1536, cpu_reserved=0.5, memory_reserved=768)


@dataclass
class LocalStage:
    """A ``Stage``: the stand-in platform with its supervisor."""

    platform: PlatformProcess
    session: aiohttp.ClientSession
    service: str = SERVICE
    sizes: Sizes | None = OTHER_SIZES
    room: int | None = 18
    crash_loops: bool = True

    def target(self) -> LocalTarget:
        return LocalTarget(self.session, self.platform.supervisor_url, 1.0)

    async def instances(self) -> set[str]:
        async with self.session.get(f"{self.platform.supervisor_url}/services/{self.service}") as answer:
            return {one["id"] for one in (await answer.json())["instances"]}

    async def scrapes(self) -> list[str]:
        """The metrics of each ready replica."""
        async with self.session.get(f"{self.platform.supervisor_url}/sd") as answer:
            groups = [group for group in await answer.json() if group["labels"]["service"] == self.service]
        texts = []
        for group in groups:
            async with self.session.get(f"http://{group['targets'][0]}/metrics") as answer:
                texts.append(await answer.text())
        return texts

    async def loop(self) -> None:
        fault = {"service": self.service, "kind": "crash"}
        async with self.session.post(f"{self.platform.supervisor_url}/faults", json=fault) as answer:
            assert answer.status == 200

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

    async def test_new_sizes_roll_while_as_many_serve_as_are_wanted_and_each_replica_tells_its_limit(
        self, stage: LocalStage
    ) -> None:
        target = stage.target()
        before = await stage.instances()
        await target.set_sizes(SERVICE, OTHER_SIZES, 7, "d-1")
        seen = [await target.observe(SERVICE)]
        while seen[-1].updating:
            await asyncio.sleep(0.05)
            seen.append(await target.observe(SERVICE))
        assert seen[0].updating
        assert all(one.desired == 2 <= one.ready <= 3 for one in seen)
        await settled(target, SERVICE, 2)
        texts = await stage.scrapes()
        assert len(texts) == 2
        assert all("platform_cpu_limit_cores 1.25" in text for text in texts)
        assert all("platform_memory_limit_bytes 1.610612736e+09" in text for text in texts)

        async def gone() -> bool:
            return not before & await stage.instances()

        await eventually("the former replicas to be gone", gone)

    async def test_sizes_that_cannot_be_are_refused_with_the_reason(self, stage: LocalStage) -> None:
        target = stage.target()
        with pytest.raises(RefusedError, match="need cpu_limit and memory_limit"):
            await target.set_sizes(SERVICE, Sizes(cpu_limit=1.0), 7, "d-1")
        with pytest.raises(RefusedError, match=r"422.*cpu_reserved_cores: 2 is above the limit of 1"):
            await target.set_sizes(SERVICE, Sizes(cpu_limit=1.0, memory_limit=512, cpu_reserved=2.0), 7, "d-1")
        unchecked = Sizes.model_construct(cpu_limit=1.0, memory_limit=-512, cpu_reserved=None, memory_reserved=None)
        with pytest.raises(RefusedError, match=r"422.*sizes.memory_limit_mib"):
            await target.set_sizes(SERVICE, unchecked, 7, "d-1")
        assert await target.observe(SERVICE) == Observation(desired=2, ready=2)


async def test_the_budget_of_the_machine_bounds_the_room(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    # Reserved as shipped: 2 x 0.5 + 2 x 0.25 + 1 x 1.0 cores.
    with run_platform(tmp_path, TIDEGATE_PLATFORM_CPU_CORES="3.3") as platform:
        target = LocalTarget(session, platform.supervisor_url, 2.0)
        assert await target.room(SERVICE) == 3
        assert await target.room("autmatrix-backend") == 1
        assert await target.room("neuroweaver-backend") == 0


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
