"""Sizing over a real NATS: a sudden load answered in one step, and a panic that a restart does not forget."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.scaler.policy import decide
from services.scaler.records import replay_inputs
from shared.contracts.resource import ResourceSample
from shared.contracts.scaling import Action, ScalingRecord
from tests.integration.scaler_rig import SERVICE, TUNING, Supervisor, World, background, eventually, open_world

pytestmark = pytest.mark.integration

CONCURRENCY = 8
SERVICE_S = 0.5
RULES = {
    "tuning": {**TUNING, "stabilization": {"up": "0s", "down": "0s"}},
    "services": {
        SERVICE: {
            "system": "relaycore",
            "min": 2,
            "max": 20,
            "sizing": {"concurrency": CONCURRENCY, "start_up": "5s"},
        }
    },
}


@pytest.fixture
async def world(nats_url: str, environment: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(nats_url, environment, tmp_path, Supervisor()) as made:
        (tmp_path / "scaling.yaml").write_text(json.dumps(RULES))
        yield made


class Arrivals:
    """A queue's samples: 20 requests/s for a minute, then ``surge`` from its beginning until it is over."""

    def __init__(self, world: World, surge: float) -> None:
        self._world, self._surge = world, surge
        self._began_s = time.time()
        self._line = 0.0
        self.over = False

    async def past(self) -> None:
        for ago_s in range(60, 0, -1):
            await self._tell(self._began_s - ago_s, 20.0)

    async def live(self) -> None:
        told_s = self._began_s
        while True:
            now_s = time.time()
            rate = 20.0 if self.over else self._surge
            carried = self._world.supervisor.ready * CONCURRENCY / SERVICE_S
            self._line = max(0.0, self._line + (rate - carried) * (now_s - told_s))
            told_s = now_s
            await self._tell(now_s, min(carried, rate) if self._line == 0 else carried)
            await asyncio.sleep(0.1)

    async def _tell(self, at_s: float, answered: float) -> None:
        replicas = self._world.supervisor.ready
        busy = answered * SERVICE_S / replicas
        values = {
            "request_rate": answered / replicas,
            "servers_busy": busy,
            "requests_in_flight": busy + self._line / replicas,
            "queue_length": self._line / replicas,
        }
        for number in range(replicas):
            sample = ResourceSample(
                service=SERVICE, system="relaycore", environment=self._world.bus.subjects.environment,
                instance=f"relaycore-{number}", at=datetime.fromtimestamp(at_s, UTC), values=values,
            )  # fmt: skip
            await self._world.bus.js.publish(
                self._world.bus.subjects.resource(SERVICE), sample.model_dump_json().encode()
            )


async def test_a_sudden_load_is_answered_in_one_step_and_its_panic_outlives_the_scaler(world: World) -> None:
    arrivals = Arrivals(world, surge=120.0)
    await arrivals.past()
    async with background(arrivals.live()):
        async with world.scaler():
            [up, *_] = await eventually("a move", lambda: world.records("decision", Action.SCALE_UP), 20)
            assert (up.current, up.reason_code) == (2, "sized")
            assert up.target >= 4, "one more for the same load would be 3"
            assert {one.source for one in up.candidates} >= {"sizing:load", "sizing:bursts", "sizing:backlog"}
            again = decide(*replay_inputs(up))
            assert (again.target, again.candidates) == (up.target, up.candidates)
            await eventually("11 replicas: 120/s of 0.5 s are 10.7 of 8 at 70 %", lambda: wanted(world, 11), 20)
            assert len(await world.records("decision", Action.SCALE_UP)) <= 4
            await asyncio.sleep(6.0)  # for the short window to be full of it
            arrivals.over = True
            await eventually("a panic that removes nothing", lambda: held(world, "panic"), 20)
        async with world.scaler():
            await asyncio.sleep(2.0)
            assert await world.records("decision", Action.SCALE_DOWN) == []
            assert await held(world, "panic")


async def wanted(world: World, replicas: int) -> bool:
    return world.supervisor.replicas >= replicas


async def held(world: World, reason: str) -> list[ScalingRecord]:
    return [one for one in await world.records("decision", Action.NO_ACTION) if one.reason_code == reason]
