"""A small supervisor of several services that can resize, and all that a scaler needs around it."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from services.scaler.audit import AuditStream
from services.scaler.situation import Sizes
from shared.bus import open_bus
from shared.contracts.resource import ResourceSample
from shared.contracts.scaling import ScalingRecord
from shared.contracts.scaling_orders import ScalingOrder
from shared.settings import PROJECT_ROOT
from tests.integration.scaler_rig import TUNING, World

SYSTEMS = {"relaycore": "relaycore", "autmatrix-backend": "autmatrix"}
SIZES = Sizes(cpu_limit=1.5, cpu_reserved=0.25, memory_limit=2048.0, memory_reserved=512.0)
RESIZING = {
    "cpu": {"min": 0.25, "max": 2.0}, "memory": {"min": "256 MB", "max": "4 GB"},
    "settle": "200ms", "window": "1500ms", "ready_within": "6s",
}  # fmt: skip


NAMES = {
    "cpu_limit": "cpu_limit_cores", "memory_limit": "memory_limit_mib",
    "cpu_reserved": "cpu_reserved_cores", "memory_reserved": "memory_reserved_mib",
}  # fmt: skip
"""What the supervisor calls each size."""


def told(sizes: Sizes) -> dict[str, float]:
    return {theirs: getattr(sizes, name) for name, theirs in NAMES.items()}


@dataclass
class Sized:
    """One service. ``rolls_s``: how long an update takes. ``needs``: least memory its replicas come up with;
    ``slow_below``: with less they answer late."""

    sizes: Sizes = SIZES
    replicas: int = 2
    updated_at: float = 0.0
    rolls_s: float = 0.3
    needs: float = 0.0
    slow_below: float = 0.0

    @property
    def latency_ms(self) -> float:
        return 60.0 if (self.sizes.memory_limit or 0) < self.slow_below else 15.0


@dataclass
class Resizable:
    """The platform's door. ``refuse``: status of the next answers to PUT of sizes; ``deaf``: none is heard."""

    services: dict[str, Sized] = field(default_factory=lambda: {name: Sized() for name in SYSTEMS})
    epoch: int = 0
    refuse: list[int] = field(default_factory=list)
    deaf: bool = False
    puts: list[dict[str, Any]] = field(default_factory=list)
    moves: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    @property
    def given(self) -> list[tuple[str, float]]:
        """Every resize that was heard: service and its memory limit."""
        return [(put["service"], put["sizes"]["memory_limit_mib"]) for put in self.puts]

    async def _get(self, request: web.Request) -> web.Response:
        its = self.services[request.match_info["service"]]
        updating = time.monotonic() - its.updated_at < its.rolls_s
        broken = not updating and (its.sizes.memory_limit or 0) < its.needs
        return web.json_response(
            {
                "desired": its.replicas, "ready": its.replicas - (1 if updating or broken else 0),
                "updating": updating, "sizes": told(its.sizes),
                "instances": [{"state": "unhealthy"}] if broken else [],
            }
        )  # fmt: skip

    async def _put_sizes(self, request: web.Request) -> web.Response:
        body = {**await request.json(), "service": request.match_info["service"]}
        if self.deaf:
            await asyncio.sleep(0.05)
            return web.json_response({"error": "not reached"}, status=503)
        if self.refuse:
            return web.json_response({"error": "not now"}, status=self.refuse.pop(0))
        if body["epoch"] < self.epoch:
            return web.json_response({"error": "older epoch"}, status=409)
        self.epoch = body["epoch"]
        self.puts.append(body)
        its, sizes = (
            self.services[body["service"]],
            Sizes(**{name: body["sizes"][theirs] for name, theirs in NAMES.items()}),
        )
        if sizes != its.sizes:
            its.sizes, its.updated_at = sizes, time.monotonic()
        return web.json_response({}, status=202)

    async def _put_replicas(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["epoch"] < self.epoch:
            return web.json_response({"error": "older epoch"}, status=409)
        its = self.services[request.match_info["service"]]
        if body["replicas"] != its.replicas:
            self.moves.append(body)
        self.epoch, its.replicas = body["epoch"], body["replicas"]
        return web.json_response({}, status=202)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Resizable"]:
        app = web.Application()
        app.add_routes(
            [
                web.get("/services/{service}", self._get),
                web.put("/services/{service}/sizes", self._put_sizes),
                web.put("/services/{service}/replicas", self._put_replicas),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


@dataclass
class ResizingWorld(World):
    """``World`` with several services; ``platform`` is its supervisor."""

    platform: Resizable = field(default_factory=Resizable)

    async def of(self, service: str, kind: str = "") -> list[ScalingRecord]:
        past = await AuditStream(self.bus.js, self.bus.subjects).read(service)
        assert past.faults == ()
        return [record for record in past.records if record.kind.startswith(kind)]

    async def order(self, service: str, memory_limit: float, name: str = "", lasts_s: float = 60.0) -> ScalingOrder:
        """Ask for another memory limit, as ``tidegate optimize --apply`` does."""
        now = datetime.now(UTC)
        order = ScalingOrder(
            id=name or f"o-{service}-{memory_limit:g}", environment=self.bus.subjects.environment, service=service,
            kind="apply", plan="p1", items=(f"memory.{service}",), from_sizes=SIZES,
            sizes=Sizes(memory_limit=memory_limit), by="ada", reason="", at=now,
            expires_at=now + timedelta(seconds=lasts_s),
        )  # fmt: skip
        await self.bus.js.publish(self.bus.subjects.order(service, "sizes"), order.model_dump_json().encode())
        return order

    async def load(self) -> None:
        """Samples of every service, until cancelled."""
        while True:
            for service, its in self.platform.services.items():
                values = {
                    "cpu_usage": 0.4, "request_rate": 80.0, "queue_length": 0.5,
                    "routing_latency": its.latency_ms,
                }  # fmt: skip
                for number in range(its.replicas):
                    sample = ResourceSample(
                        service=service, system=SYSTEMS[service], environment=self.bus.subjects.environment,
                        instance=f"{service}-{number}", at=datetime.now(UTC), values=values,
                    )  # fmt: skip
                    await self.bus.js.publish(self.bus.subjects.resource(service), sample.model_dump_json().encode())
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def open_resizing_world(nats_url: str, environment: str, folder: Path) -> AsyncIterator[ResizingWorld]:
    """Two services that may be resized, and a bus in an environment of its own."""
    rules = yaml.safe_load((PROJECT_ROOT / "config" / "scaling.yaml").read_text())
    rules["tuning"] = TUNING
    rules["services"] = {name: rules["services"][name] for name in SYSTEMS}
    for its in rules["services"].values():
        its["up"] = [{"metric": "routing_latency", "above": 75}]
        its["resizing"] = RESIZING
    (folder / "scaling.yaml").write_text(json.dumps(rules))
    platform = Resizable()
    async with open_bus(nats_url, environment, "test") as bus, platform.serving():
        yield ResizingWorld(bus, platform, folder, nats_url, platform=platform)  # type: ignore[arg-type] # only its url is read
