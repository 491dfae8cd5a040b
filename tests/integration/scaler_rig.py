"""What the scaler's integration tests stand on: a small supervisor, samples and breaches to publish, the records."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from nats.errors import Error as NatsError
from nats.js.errors import KeyNotFoundError

from services.scaler.app import serve
from services.scaler.audit import AuditStream
from services.scaler.settings import ScalerSettings
from shared.bus import Bus, open_bus
from shared.contracts.breach import BreachEvent, BreachStatus
from shared.contracts.resource import ResourceSample
from shared.contracts.scaling import ScalingRecord
from shared.service import end_all
from shared.settings import PROJECT_ROOT
from tests.unit.scaler_cases import breach_event

SERVICE = "relaycore"
TRACE = "0af7651916cd43dd8448eb211c80319c"
TUNING = {
    "cooldown": "500ms",
    "window": "1s",
    "freshness": "1s",
    "effectiveness": {"settle": "200ms", "window": "1500ms", "ready_within": "10s"},
}


async def eventually(what: str, probe: Callable[[], Awaitable[Any]], timeout_s: float = 20.0) -> Any:
    """The first truthy answer of a probe."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = await probe()
        if found:
            return found
        await asyncio.sleep(0.03)
    raise AssertionError(f"{what} did not happen within {timeout_s} s")


@dataclass
class Supervisor:
    """The platform's door with one service. ``starts``: replicas become ready at once. ``refuse``: status of the next
    answers to PUT. ``heard``: called with each PUT before it is looked at. ``fenced``: those of an older epoch.
    ``room``: how many more there may be, None for not told."""

    replicas: int = 2
    ready: int = 2
    epoch: int = 0
    starts: bool = True
    room: int | None = None
    refuse: list[int] = field(default_factory=list)
    puts: list[dict[str, Any]] = field(default_factory=list)
    fenced: list[dict[str, Any]] = field(default_factory=list)
    heard: Callable[[dict[str, Any]], Awaitable[None]] | None = None
    url: str = ""

    @property
    def moves(self) -> list[dict[str, Any]]:
        """PUTs that carried out a decision; the others only stamp an epoch."""
        return [put for put in self.puts if put["decision"]]

    def start_all(self) -> None:
        self.starts, self.ready = True, self.replicas

    async def _get(self, request: web.Request) -> web.Response:
        if request.match_info["service"] != SERVICE:
            return web.json_response({"error": "service: is unknown"}, status=404)
        told = {"service": SERVICE, "desired": self.replicas, "ready": self.ready, "instances": [], "room": self.room}
        return web.json_response(told)

    async def _put(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.heard is not None:
            await self.heard(body)
        if self.refuse:
            return web.json_response({"error": "not now"}, status=self.refuse.pop(0))
        if body["epoch"] < self.epoch:
            self.fenced.append(body)
            return web.json_response({"error": "older epoch"}, status=409)
        self.puts.append(body)
        self.epoch, self.replicas = body["epoch"], body["replicas"]
        if self.starts:
            self.ready = self.replicas
        return web.json_response({}, status=202)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Supervisor"]:
        app = web.Application()
        app.add_routes([web.get("/services/{service}", self._get), web.put("/services/{service}/replicas", self._put)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


def relieved_by_replicas(ready: int) -> dict[str, float]:
    """What a queue looks like that two replicas cannot carry and more can."""
    return {
        "cpu_usage": 0.4,
        "request_rate": 80.0,
        "queue_length": 0.5 if ready > 2 else 15.0,
        "routing_latency": 15.0 if ready > 2 else 200.0,
    }


@dataclass
class World:
    """Everything around the scalers of one environment. ``values``: what each of so many ready replicas tells."""

    bus: Bus
    supervisor: Supervisor
    config_dir: Path
    nats_url: str
    revision: int = 0
    values: Callable[[int], dict[str, float]] = relieved_by_replicas

    async def records(self, kind: str = "", action: str = "") -> list[ScalingRecord]:
        past = await AuditStream(self.bus.js, self.bus.subjects).read(SERVICE)
        assert past.faults == ()
        return [r for r in past.records if r.kind.startswith(kind) and (not action or r.action == action)]

    async def breach(self, status: BreachStatus, **more: Any) -> bytes:
        """Publish the next event of the episode; returns its bytes."""
        self.revision += 1
        breach = breach_event(status, self.revision, environment=self.bus.subjects.environment, **more)
        body = BreachEvent.of(breach, datetime.now(UTC)).model_dump_json().encode()
        await self.publish_breach(body)
        return body

    async def publish_breach(self, body: bytes) -> None:
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        await self.bus.js.publish(
            self.bus.subjects.breach("relaycore", "routing_latency", "all"), body, headers=headers
        )

    async def load(self) -> None:
        """Samples of every ready replica, until cancelled."""
        while True:
            await self._sample(**self.values(self.supervisor.ready))

    async def calm(self) -> None:
        """Samples of hardly any load, until cancelled."""
        while True:
            await self._sample(cpu_usage=0.05, request_rate=5.0, queue_length=0.0, routing_latency=5.0)

    async def _sample(self, **values: float) -> None:
        for number in range(self.supervisor.ready):
            sample = ResourceSample(
                service=SERVICE, system="relaycore", environment=self.bus.subjects.environment,
                instance=f"relaycore-{number}", at=datetime.now(UTC), values=values,
            )  # fmt: skip
            # A broker that is away hears of none.
            with contextlib.suppress(NatsError, TimeoutError):
                await self.bus.js.publish(self.bus.subjects.resource(SERVICE), sample.model_dump_json().encode())
        await asyncio.sleep(0.1)

    def change_rules(self, **values: Any) -> None:
        """Other rules of the service, for scalers that begin after this."""
        path = self.config_dir / "scaling.yaml"
        rules = json.loads(path.read_text())
        rules["services"][SERVICE] |= values
        path.write_text(json.dumps(rules))

    def environment_variables(self, scaler_id: str) -> dict[str, str]:
        return {
            "TIDEGATE_NATS_URL": self.nats_url,
            "TIDEGATE_ENVIRONMENT": self.bus.subjects.environment,
            "TIDEGATE_CONFIG_DIR": str(self.config_dir),
            "TIDEGATE_PLATFORM_URL": self.supervisor.url,
            "TIDEGATE_SCALER_ID": scaler_id,
            "TIDEGATE_SCALER_TICK_S": "0.1",
            "TIDEGATE_SCALER_POLL_S": "0.05",
            "TIDEGATE_SCALER_REASON_INTERVAL_S": "0.3",
        }

    @contextlib.asynccontextmanager
    async def scaler(self, **more: Any) -> AsyncIterator[None]:
        """One scaler in this process, stopped as SIGTERM would."""
        values = {
            name.removeprefix("TIDEGATE_").lower(): value for name, value in self.environment_variables("here").items()
        }
        settings = ScalerSettings.model_validate({**values, "scaler_lease_s": 0.1, **more})
        stop = asyncio.Event()
        running = asyncio.create_task(serve(settings, stop))
        try:
            yield
            assert not running.done(), running
        finally:
            stop.set()
            await asyncio.wait_for(running, 10)

    async def scaler_process(self, scaler_id: str, module: str = "services.scaler") -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, cwd=PROJECT_ROOT,
            env={**os.environ, **self.environment_variables(scaler_id)},
        )  # fmt: skip

    async def leader(self) -> str:
        """Who holds the lease, empty when nobody does."""
        try:
            entry = await (await self.bus.bucket("leases")).get("scaler")
        except KeyNotFoundError:
            return ""
        return (entry.value or b"").decode()


@contextlib.asynccontextmanager
async def open_world(nats_url: str, environment: str, folder: Path, supervisor: Supervisor) -> AsyncIterator[World]:
    """A supervisor, short rules and a bus in an environment of its own."""
    rules = yaml.safe_load((PROJECT_ROOT / "config" / "scaling.yaml").read_text())
    rules["tuning"] = TUNING
    rules["services"] = {SERVICE: rules["services"][SERVICE]}
    # So that the breach alone decides when it begins.
    rules["services"][SERVICE]["up"] = [{"metric": "cpu_usage", "above": 0.75}]
    (folder / "scaling.yaml").write_text(json.dumps(rules))
    async with open_bus(nats_url, environment, "test") as bus, supervisor.serving():
        yield World(bus, supervisor, folder, nats_url)


@contextlib.asynccontextmanager
async def background(coroutine: Any) -> AsyncIterator[None]:
    """Runs beside the test; an error in it is the test's."""
    task = asyncio.ensure_future(coroutine)
    try:
        yield
        assert not task.done(), task
    finally:
        await end_all([task])
