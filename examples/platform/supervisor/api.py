"""The supervisor's HTTP API: health, targets, services and their replicas, scrape targets, counts, faults."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..replica.spec import Fault, Sizes
from .desired import OutOfLimitsError, StaleEpochError
from .fleet import Fleet
from .platform import Platform

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ReplicasRequest(BaseModel):
    """Body of `PUT /services/{service}/replicas`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    replicas: int
    epoch: Annotated[int, Field(ge=0)] = 0
    decision: str | None = None


class SizesRequest(BaseModel):
    """Body of `PUT /services/{service}/sizes`."""

    model_config = ConfigDict(extra="forbid")

    sizes: Sizes
    epoch: Annotated[int, Field(ge=0)] = 0
    decision: str | None = None


class FaultRequest(BaseModel):
    """Body of `POST /faults`."""

    model_config = ConfigDict(extra="forbid")

    service: str
    kind: str
    factor: float = 5.0
    rate: float = 0.5


class PlatformApi:
    """Routes over one platform."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.app = web.Application(middlewares=[_problems])
        router = self.app.router
        router.add_get("/health", self.read_health)
        router.add_get("/targets", self.read_targets)
        router.add_get("/services", self.list_services)
        router.add_get("/services/{service}", self.read_service)
        router.add_put("/services/{service}/replicas", self.put_replicas)
        router.add_put("/services/{service}/sizes", self.put_sizes)
        router.add_get("/sd", self.discover)
        router.add_get("/counts", self.read_counts)
        router.add_post("/faults", self.post_fault)
        router.add_get("/faults", self.read_faults)

    async def read_health(self, request: web.Request) -> web.Response:
        """200 once every service has had its wanted replicas ready, 503 until then."""
        is_ready = self._platform.has_started
        return web.json_response({"status": "ok" if is_ready else "starting"}, status=200 if is_ready else 503)

    async def read_targets(self, request: web.Request) -> web.Response:
        return web.json_response(self._platform.targets())

    async def list_services(self, request: web.Request) -> web.Response:
        return web.json_response([self._as_json(fleet) for fleet in self._platform.fleets.values()])

    async def read_service(self, request: web.Request) -> web.Response:
        return web.json_response(self._as_json(self._fleet(request.match_info["service"])))

    async def put_replicas(self, request: web.Request) -> web.Response:
        fleet = self._fleet(request.match_info["service"])
        asked = _parse(TypeAdapter(ReplicasRequest), await request.read())
        fleet.request_replicas(asked.replicas, asked.epoch, asked.decision)
        return web.json_response(self._as_json(fleet), status=202)

    async def put_sizes(self, request: web.Request) -> web.Response:
        fleet = self._fleet(request.match_info["service"])
        asked = _parse(TypeAdapter(SizesRequest), await request.read())
        fleet.request_sizes(asked.sizes, asked.epoch, asked.decision)
        return web.json_response(self._as_json(fleet), status=202)

    async def discover(self, request: web.Request) -> web.Response:
        """Prometheus HTTP service discovery: the ready replicas' own ports."""
        groups = [
            {
                "targets": [urlsplit(instance.url).netloc],
                "labels": {"service": fleet.service, "system": fleet.config.system, "instance": instance.id},
            }
            for fleet in self._platform.fleets.values()
            for instance in fleet.ready
        ]
        return web.json_response(groups)

    async def read_counts(self, request: web.Request) -> web.Response:
        run = request.query.get("run")
        if not run:
            return web.json_response({"error": "run: is missing"}, status=422)
        return web.json_response(self._platform.counts(run))

    async def post_fault(self, request: web.Request) -> web.Response:
        asked = _parse(TypeAdapter(FaultRequest), await request.read())
        fleet = self._fleet(asked.service)
        fault = _validate(TypeAdapter(Fault), asked.model_dump(exclude={"service"}))
        await fleet.set_fault(fault)
        return web.json_response({"service": fleet.service, **asdict(fault)})

    async def read_faults(self, request: web.Request) -> web.Response:
        return web.json_response({name: asdict(fleet.fault) for name, fleet in self._platform.fleets.items()})

    def _as_json(self, fleet: Fleet) -> dict[str, Any]:
        return fleet.as_json() | {"room": self._platform.room(fleet.service)}

    def _fleet(self, service: str) -> Fleet:
        fleet = self._platform.fleets.get(service)
        if fleet is None:
            known = ", ".join(self._platform.fleets)
            raise _UnknownServiceError(f"service: {service!r} is unknown; would be one of {known}")
        return fleet


class _UnknownServiceError(Exception):
    pass


class _BadBodyError(Exception):
    pass


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except _UnknownServiceError as error:
        return web.json_response({"error": str(error)}, status=404)
    except StaleEpochError as error:
        return web.json_response({"error": str(error), "epoch": error.epoch}, status=409)
    except (_BadBodyError, OutOfLimitsError) as error:
        return web.json_response({"error": str(error)}, status=422)


def _parse(adapter: TypeAdapter[T], body: bytes) -> T:
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        raise _BadBodyError(_describe(error)) from error


def _validate(adapter: TypeAdapter[T], document: dict[str, Any]) -> T:
    try:
        return adapter.validate_python(document)
    except ValidationError as error:
        raise _BadBodyError(_describe(error)) from error


def _describe(error: ValidationError) -> str:
    fault = error.errors()[0]
    name = ".".join(str(part) for part in fault["loc"]) or "body"
    return f"{name}: {fault['input']!r}: {fault['msg']}"
